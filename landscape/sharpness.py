"""One table of sharpness measures, with the error of each and what moves them for no reason."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from landscape.ascents import Tell
from landscape.chunks import draw_chunks
from landscape.modules import load_theta
from landscape.objectives import Objective
from landscape.operators import Progress
from landscape.rescalings import NEURONS, NORMS, rescalings
from landscape.results import Sharpness
from landscape.sample_slopes import mean_probability
from landscape.savepoints import Savepoint
from landscape.sharpness_measures import MEASURES, Bench, CutShort, Row, Settings, costs

_TABLE, _BEFORE = "table", "before"
_INNER = "inner_"
_CHANGES = (NEURONS, NORMS)
# The audit compares the same computation before and after: it may be a short one.
_AUDIT_MOST = {"ascent_steps": 5, "pairs": 16, "chunks": 1}

_SAME = 1e-2  # batch statistics follow a change up to eps


def measure_sharpness(
    objective: Objective,
    *,
    rho: float = 0.05,
    ascent_steps: int = 20,
    average_rho: float = 0.005,
    pairs: int = 32,
    adaptive_rho: float = 0.5,
    adaptive_box: float = 0.002,
    adaptive_average_rho: float = 0.1,
    m: int = 128,
    chunks: int = 8,
    probes: int = 20,
    tolerance: float = 1e-3,
    seed: int,
    audit: bool = True,
    savepoint: Savepoint | None = None,
    progress: Progress | None = None,
) -> Sharpness:
    """Measure λmax, trace, and how far the loss rises within and on average about the weights.

    Worst cases are lower bounds of the maximum over their ball: the highest rise found climbing
    from the ends of the gradient and of the top eigenvector, which are exact at a minimum of a
    quadratic. There is no interval for how far the maximum lies above. Averages are over pairs ±e.
    Intervals are 95 %, of the trace over probes, of averages over pairs, of m-sharpness over chunks
    as draws from the population that the data are of. That of λmax has a certain lower end, and an
    upper one that holds for all but 1 % of start vectors. All else is of these data alone.

    The audit repeats all measures, by a shorter computation on one chunk of the data, after
    changes of the weights that leave the function as it is: a measure that moves tells of the
    weights' scale as well. Two networks are not compared by such a one alone.

    Args:
        objective: The loss as a function of theta.
        rho: Radius of the ball of SAM and m-sharpness, and of the sphere.
        ascent_steps: Most gradients taken from each start of a climb.
        average_rho: Standard deviation of each weight's displacement in the Gaussian average; ‖e‖
            is about √param times that.
        pairs: Pairs ±e of each average, at least 2.
        adaptive_rho: Radius of ‖e ⊘ |w|‖₂; 0.5 is ASAM's default (Kwon et al. 2021).
        adaptive_box: Largest |e_i| / |w_i|.
        adaptive_average_rho: Standard deviation of e_i / |w_i|.
        m: Samples in a chunk of m-sharpness; with batch statistics the objective's batches.
        chunks: Most chunks to measure, drawn from all.
        probes: Random vectors of the trace, at least 2.
        tolerance: Residual of λmax, relative to it.
        seed: Seed of start vectors, probes, displacements, chunks and the audit's factors.
        audit: Whether to audit.
        savepoint: Where finished rows are kept.
        progress: Called with work done, all work, and the row being measured.

    Returns:
        The table. After Ctrl-C the rows known so far, NaN for others, with
        `facts["interrupted"]`.

    Raises:
        ValueError: An argument is out of range, or a derivative is not finite.
        KeyboardInterrupt: Ctrl-C before the first row was known.

    Source: Foret et al. 2021; Andriushchenko et al. 2023, "A modern look at the relationship
        between sharpness and generalization"; Dinh et al. 2017 for the audit.
    """
    settings = Settings(
        rho=rho,
        ascent_steps=ascent_steps,
        average_rho=average_rho,
        pairs=pairs,
        adaptive_rho=adaptive_rho,
        adaptive_box=adaptive_box,
        adaptive_average_rho=adaptive_average_rho,
        m=m,
        chunks=chunks,
        probes=probes,
        tolerance=tolerance,
        seed=seed,
    )
    _check(settings)
    bench = Bench(objective, settings)
    probability = mean_probability(objective)
    state = _State.resumed(savepoint, bench, audit)
    meter = _Meter(progress, bench, audit)
    partial: dict[str, Row] = {}
    interrupted = False
    try:
        _fill(bench, _TABLE, state, meter, savepoint)
        if audit:
            _audit(bench, state, meter, savepoint)
    except KeyboardInterrupt as stop:
        if savepoint is not None:
            savepoint.save(state.arrays())
        if isinstance(stop, CutShort) and meter.stage == _TABLE:
            partial[meter.name] = stop.row
        if not state.rows.get(_TABLE) and not partial:
            raise
        interrupted = True
    meter.end()
    return _table(bench, state, partial, audit, probability, interrupted)


@dataclass(kw_only=True)
class _State:
    """All rows measured so far, and what a resumed run needs beside them."""

    question: dict[str, Any]
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    """By stage and name of the measure."""
    notes: dict[str, Any] = field(default_factory=dict)
    """About the audit, for facts."""
    top: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    inner: dict[str, np.ndarray] = field(default_factory=dict)
    inner_of: str = ""
    """The state that the row being measured keeps itself, and which row that is."""

    @classmethod
    def resumed(cls, savepoint: Savepoint | None, bench: Bench, audit: bool) -> "_State":
        """Take up what was saved, if it is of the same question."""
        question = {**asdict(bench.settings), "audit": audit, "parameters": bench.theta.numel()}
        state = cls(question=question)
        arrays = None if savepoint is None else savepoint.load()
        if arrays is None or "sharpness" not in arrays:
            return state
        saved = json.loads(arrays["sharpness"].tobytes())
        if saved["question"] != question:
            return state
        state.rows = {
            stage: {name: Row(**row) for name, row in rows.items()}
            for stage, rows in saved["rows"].items()
        }
        state.notes, state.top = saved["notes"], arrays["top"]
        state.inner_of = saved["inner_of"]
        state.inner = {
            name.removeprefix(_INNER): array
            for name, array in arrays.items()
            if name.startswith(_INNER)
        }
        if state.top.size:
            bench.top = torch.tensor(state.top).to(bench.theta)
        return state

    def arrays(self) -> dict[str, np.ndarray]:
        """As a savepoint keeps it."""
        rows = {
            stage: {name: asdict(row) for name, row in rows.items()}
            for stage, rows in self.rows.items()
        }
        known = {"question": self.question, "rows": rows, "notes": self.notes}
        text = json.dumps({**known, "inner_of": self.inner_of})
        inner = {f"{_INNER}{name}": array for name, array in self.inner.items()}
        return {"sharpness": np.frombuffer(text.encode(), np.uint8), "top": self.top, **inner}


@dataclass
class _Inner:
    """The savepoint of one row, within that of the table."""

    outer: Savepoint
    state: _State
    name: str

    def load(self) -> dict[str, np.ndarray] | None:
        return self.state.inner if self.state.inner_of == self.name else None

    def due(self) -> bool:
        return self.outer.due()

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        self.state.inner, self.state.inner_of = dict(state), self.name
        self.outer.save(self.state.arrays())


class _Meter:
    """Progress over all rows of all stages, by what each usually takes."""

    def __init__(self, progress: Progress | None, bench: Bench, audit: bool) -> None:
        self._progress = progress
        whole = dict(zip(MEASURES, costs(bench.settings, bench.objective), strict=True))
        share = min(1.0, bench.settings.m / bench.objective.facts["samples"])
        few = costs(_shorter(bench.settings), bench.objective)
        short = {n: max(1, round(share * c)) for n, c in zip(MEASURES, few, strict=True)}
        stages = (_BEFORE, *_CHANGES) if audit else ()
        self._costs = {(_TABLE, name): cost for name, cost in whole.items()}
        self._costs |= {(stage, name): short[name] for stage in stages for name in MEASURES}
        self._total, self._done = sum(self._costs.values()), 0
        self.stage, self.name = _TABLE, ""

    def row(self, stage: str, name: str) -> Tell:
        """Begin a row, and give what tells how far it is."""
        self.stage, self.name = stage, name
        words = name if stage == _TABLE else f"audit, {stage}: {name}"
        keys = list(self._costs)
        self._done = sum(self._costs[key] for key in keys[: keys.index((stage, name))])
        cost = self._costs[stage, name]

        def tell(done: int, allowed: int, note: str) -> None:
            if self._progress is not None:
                here = self._done + cost * done // max(allowed, 1)
                self._progress(here, self._total, f"{words} {note}".strip())

        tell(0, 1, "")
        return tell

    def end(self) -> None:
        """All that was done is all there is."""
        if self._progress is not None:
            self._progress(self._total, self._total, "")


def _fill(
    bench: Bench, stage: str, state: _State, meter: _Meter, savepoint: Savepoint | None
) -> None:
    """Measure all rows of a stage that are not known yet."""
    rows = state.rows.setdefault(stage, {})
    for name, measure in MEASURES.items():
        if name in rows:
            continue
        if savepoint is not None and stage == _TABLE:
            bench.savepoint = _Inner(savepoint, state, name)
        rows[name] = measure(bench, meter.row(stage, name))
        state.inner, state.inner_of = {}, ""
        if stage == _TABLE and bench.top is not None:
            state.top = bench.top.float().cpu().numpy()
        if savepoint is not None and savepoint.due():
            savepoint.save(state.arrays())


def _audit(bench: Bench, state: _State, meter: _Meter, savepoint: Savepoint | None) -> None:
    """Measure on one chunk before and after each change; a stage is measured whole or not."""
    small = _one_chunk(bench.objective, bench.settings)
    settings = _shorter(bench.settings)
    state.notes["samples"] = small.facts["samples"]
    state.notes |= {name: getattr(settings, name) for name in _AUDIT_MOST if name != "chunks"}
    made = list(rescalings(small, seed=settings.seed))
    state.notes |= {change.name: change.note for change in made}
    applied = [(change.name, change.objective) for change in made if change.objective]
    for stage, objective in [(_BEFORE, small), *applied] if applied else []:
        if len(state.rows.get(stage, {})) < len(MEASURES):
            state.rows.pop(stage, None)
            _fill(Bench(objective, settings), stage, state, meter, savepoint)


def _one_chunk(objective: Objective, settings: Settings) -> Objective:
    """The same loss of a few samples, with a model of its own."""
    batches, _ = draw_chunks(objective, size=settings.m, most=1, seed=settings.seed)
    values = objective.parameters(objective.theta)
    buffers = {name: values.get(name, b) for name, b in objective.model.named_buffers()}
    model = load_theta(objective.model, objective.theta, buffers)
    return Objective(model, objective.loss_fn, batches, bn=objective.facts["bn"])


def _shorter(settings: Settings) -> Settings:
    most = {name: min(getattr(settings, name), most) for name, most in _AUDIT_MOST.items()}
    return replace(settings, **most)


def _table(
    bench: Bench,
    state: _State,
    partial: dict[str, Row],
    audit: bool,
    probability: float,
    interrupted: bool,
) -> Sharpness:
    rows = [state.rows[_TABLE].get(name, partial.get(name, Row())) for name in MEASURES]
    _, value, error, low, high, bound = zip(*map(astuple, rows), strict=True)
    changes = _CHANGES if audit else ()
    ratios = [list(_ratios(state.rows, change)) for change in changes]
    return Sharpness(
        names=tuple(MEASURES),
        settings=tuple(row.settings for row in rows),
        value=np.array(value),
        standard_error=np.array(error),
        interval_low=np.array(low),
        interval_high=np.array(high),
        lower_bound=np.array(bound),
        audit_names=changes,
        audit=np.array(ratios).T if audit else np.empty((0, 0)),
        loss=bench.loss,
        mean_probability=probability,
        facts={
            **bench.operator.facts,
            **asdict(bench.settings),
            "confidence": 0.95,
            **({"audit": state.notes} if audit else {}),
            **({"interrupted": True} if interrupted else {}),
        },
    )


def _ratios(rows: dict[str, dict[str, Row]], change: str) -> Iterator[float]:
    """Each measure after a change, divided by that before.

    NaN where one is not told from 0; by the same draws both may still be seen to be the same.
    """
    for name in MEASURES:
        before, after = (rows.get(stage, {}).get(name, Row()) for stage in (_BEFORE, change))
        unsure = any(row.low <= 0 <= row.high for row in (before, after))
        moved = not math.isclose(after.value, before.value, rel_tol=_SAME)
        known = before.value != 0 and not (unsure and moved)
        yield after.value / before.value if known else math.nan


def _check(settings: Settings) -> None:
    positive = ("rho", "average_rho", "adaptive_rho", "adaptive_box", "adaptive_average_rho")
    for name in (*positive, "tolerance"):
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above 0, got {value}")
    for name, least in (("ascent_steps", 1), ("pairs", 2), ("m", 1), ("chunks", 1), ("probes", 2)):
        value = getattr(settings, name)
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
