"""The few numbers that tell runs apart, for the list of runs and for the comparison."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from landscape.figures.alignments import trained_with

from . import measured
from .panes import found
from .store import AnyRun, Store, checkpoint_of

LAST_ROWS = 20
"""Rows whose mean is called the last train loss: a single batch is noise."""
KINDS = (
    "surface",
    "spectrum",
    "density",
    "trace",
    "curvature",
    "sharpness",
    "stability",
    *measured.DIRECTIONAL,
    "trajectory",
)
"""Kinds of results that are counted."""
GROUPS = {
    "surface": ("surface",),
    "spectrum": measured.KINDS,
    "consistency": measured.DIRECTIONAL,
    "trajectory": ("trajectory",),
}
"""What one icon stands for in the list of runs."""
NAMES = {"curvature": "curvature through training"}
"""Kinds that are not called what they are."""
_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run in numbers; NaN where something was not measured."""

    steps: int
    """Updates recorded; of an imported run, those before its last checkpoint."""
    total: int
    """Updates planned, or recorded where no plan is known."""
    train_loss: float
    """Mean over the last `LAST_ROWS` steps."""
    test_loss: float
    test_accuracy: float
    eigenvalue: float
    """Largest eigenvalue of the Hessian of the whole net at the last checkpoint measured."""
    cosine: float
    """Mean cosine of the run's own perturbation, frozen protocol, last checkpoint measured."""
    null: tuple[float, float]
    """The band of that cosine under random sign flips."""
    measured: dict[str, int] = field(default_factory=dict)
    """How many results of each kind there are."""

    @property
    def progress(self) -> float:
        """Share of the planned steps, 0 to 1."""
        return min(self.steps / self.total, 1.0) if self.total else 1.0


def summarize(run: AnyRun, store: Store) -> Summary:
    """The numbers of a run; what can't be read counts as not measured."""
    steps = found(lambda: store.steps(run)) or {}
    evaluations = found(lambda: store.evaluations(run)) or {}
    loss = steps.get("loss", np.empty(0))
    kept = found(lambda: run.checkpoints) or (0,)  # all that an imported run has
    done = int(steps["step"][-1]) + 1 if len(loss) else kept[-1]
    own = found(lambda: own_consistency(run, store))
    return Summary(
        steps=done,
        total=run.total_steps or done,
        train_loss=float(np.mean(loss[-LAST_ROWS:])) if len(loss) else _NAN,
        test_loss=_last(run.summary, evaluations, "test_loss"),
        test_accuracy=_last(run.summary, evaluations, "test_accuracy"),
        eigenvalue=largest_eigenvalue(run, store),
        cosine=own.mean_cosine if own is not None else _NAN,
        null=(own.null_low, own.null_high) if own is not None else (_NAN, _NAN),
        measured={kind: len(store.results(run, kind)) for kind in KINDS},
    )


def largest_eigenvalue(run: AnyRun, store: Store) -> float:
    """λ max of the Hessian, from the last checkpoint at which it was measured in whichever way.

    Where one checkpoint has it twice, that of a spectrum of its own, the newest.
    """
    known: list[tuple[float, bool, float]] = []
    for stored in store.results(run, "spectrum"):
        if measured.is_plain_hessian(stored) and stored.options.get("which", "LM") != "SA":
            values = found(lambda stored=stored: store.load(stored).eigenvalues)
            if values is not None and len(values):
                known.append((checkpoint_of(stored), True, float(values.max())))
    for stored in store.results(run, "curvature"):
        curvature = found(lambda stored=stored: store.load(stored))
        if curvature is not None and curvature.eigenvalues.shape[1]:
            rows = np.flatnonzero(np.isfinite(curvature.eigenvalues[:, 0]))
            known += [
                (float(curvature.step[at]), False, float(curvature.eigenvalues[at, 0]))
                for at in rows[-1:]
            ]
    best = max((step, own) for step, own, _ in known) if known else None
    return [value for step, own, value in known if (step, own) == best][-1] if best else _NAN


def counts_told(counted: dict[str, int], kinds: tuple[str, ...]) -> str:
    """How many results there are of kinds, in words; "" for none."""
    return ", ".join(f"{counted[k]} × {NAMES.get(k, k)}" for k in kinds if counted.get(k))


def _last(summary: dict[str, Any], evaluations: dict[str, np.ndarray], name: str) -> float:
    if isinstance(summary.get(name), int | float):
        return float(summary[name])
    column = evaluations.get(name, np.empty(0))
    return float(column[-1]) if len(column) else _NAN


def own_perturbation(run: AnyRun) -> str:
    """First word of the labels of the perturbation that a run was trained with; "" for none."""
    return next(iter(trained_with(run.method)), "")


def own_consistency(run: AnyRun, store: Store) -> Any:
    """The run's own perturbation under the frozen protocol, at the last checkpoint that has it."""
    own = own_perturbation(run)
    best = None
    for stored in store.results(run, "consistency"):
        if not own or stored.options.get("protocol") != "frozen":
            continue
        label = str(stored.options.get("perturbation", "")).upper()
        step = stored.facts.get("checkpoint", 0)
        if label.startswith(own) and (best is None or step >= best[0]):
            best = (step, stored)
    return store.load(best[1]) if best else None


def settings(run: AnyRun) -> dict[str, str]:
    """The run's settings as text, nested ones by dotted name."""
    flat: dict[str, str] = {}

    def add(prefix: str, content: Any) -> None:
        if isinstance(content, dict):
            for name, inner in content.items():
                add(f"{prefix}{name}.", inner)
        elif content is not None:
            shown = ", ".join(map(str, content)) if isinstance(content, list) else str(content)
            flat[prefix.rstrip(".")] = shown

    add("", run.config)
    return flat


def differing(runs: list[AnyRun]) -> tuple[list[str], int]:
    """Names of the settings that differ between runs, and how many are equal in all."""
    tables = [settings(run) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    unequal = [name for name in names if len({table.get(name) for table in tables}) > 1]
    return unequal, len(names) - len(unequal)
