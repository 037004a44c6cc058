"""Which stored results a paper figure of runs shows, and how it is drawn."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from landscape.figures.alignments import perturbation_color, trained_with
from landscape.figures.measure_lines import LENGTHS
from landscape.figures.scales import lr_drops
from landscape.results import Result
from landscape.runs import Run, StoredResult, read_stored
from landscape.storage import RunFileError
from landscape.terminal import near

DRAWN = {
    "profile": "draw_profile",
    "surface": "draw_surface",
    "surface3d": "draw_surface3d",
    "barrier": "draw_barrier",
    "curve": "draw_curve",
    "spectrum": "draw_spectrum",
    "density": "draw_density",
    "trace": "draw_trace",
    "sharpness": "draw_sharpness",
    "stability": "draw_stability",
    "curvature": "draw_curvature",
    "layers": "draw_layers",
    "eigenvalues": "draw_eigenvalues",
    "consistency": "draw_consistency",
    "cosines": "draw_cosines",
    "directions": "draw_directions",
    "rotation": "draw_rotation",
    "shares": "draw_shares",
    "components": "draw_components",
    "norms": "draw_components",
    "tensors": "draw_tensors",
    "rise": "draw_rise",
    "transfer": "draw_rise",
    "alignment": "draw_rise",
    "offset": "draw_offset",
    "trajectory": "draw_trajectory",
    "steps": "draw_steps",
    "comparison": "draw_comparison",
    "claim": "draw_claim",
}
"""Kind of figure -> paper function."""

MEASURED = ("draw_profile", "draw_surface", "draw_surface3d", "draw_barrier", "draw_curve")
"""Paper functions that draw any quantity that was measured, by the keyword `quantity`."""

SINGLE = ("surface3d", "layers", "cosines", "rotation", "trajectory")
"""Kinds that show one run."""

JOINT = "joint"
"""Name of the folder beside runs that holds results of several of them."""

_STORED = {
    "surface3d": "surface",
    "eigenvalues": "spectrum",
    "layers": "curvature",
    "cosines": "consistency",
    "rotation": "directions",
    "shares": "consistency",
    "components": "consistency",
    "norms": "consistency",
    "tensors": "consistency",
    "transfer": "rise",
    "alignment": "rise",
}
_PARTS = {
    "transfer": {"part": "transfer"},
    "alignment": {"part": "curvature"},
    "norms": {"parts": LENGTHS},
}
_COMMANDS = {"density": "spectrum", "trace": "spectrum", "comparison": "compare"}
_BY_CHECKPOINT = (
    *("consistency", "shares", "components", "norms", "tensors"),
    *("rise", "transfer", "alignment"),
)
_COLORLESS = ("cosines", "layers", "rotation")
_TOGETHER = ("joint", "minima")
_WITH_DROPS = (
    *("surface", "surface3d", "eigenvalues", "curvature", "consistency"),
    *("directions", "trajectory"),
    *("shares", "components", "norms", "rise", "alignment"),
)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure to be drawn: the paper function, its first argument, and its keywords."""

    function: str
    subject: Any
    style: dict[str, Any] = field(default_factory=dict)


def check_kind(kind: str) -> str:
    """The kind itself.

    Raises:
        ValueError: If there is no figure of this kind.
    """
    if kind not in DRAWN:
        raise ValueError(
            f"there is no figure {kind!r}{near(kind, DRAWN)}; there are {', '.join(DRAWN)}"
        )
    return kind


def drawing_of_result(result: Result, kind: str | None = None) -> Drawing:
    """How a single result is drawn, by default as its own kind.

    Raises:
        ValueError: If a figure of this kind isn't made of such a result.
    """
    kind = check_kind(kind or result.kind)
    if _STORED.get(kind, kind) != result.kind or kind == "eigenvalues":
        raise ValueError(f"a figure {kind!r} can't be made of one {result.kind!r} result")
    return Drawing(function=DRAWN[kind], subject=result, style=dict(_PARTS.get(kind, {})))


def drawing_of_runs(
    runs: Sequence[Run],
    kind: str,
    checkpoint: str | None = None,
    wanted: Mapping[str, Any] | None = None,
) -> Drawing:
    """How a kind of figure shows runs: the newest result of each, or that of a checkpoint.

    Args:
        runs: At least one run.
        kind: One of `DRAWN`.
        checkpoint: "first", "last" or a step; by default the newest result.
        wanted: Facts or options that the results must have, e.g. {"plane": "trajectory"}; of a
            perturbation the first letters do, e.g. {"perturbation": "aace"}.

    Raises:
        ValueError: If there is no run, the kind is unknown or shows one run only, or a run has no
            such result.
        RunFileError: If a run keeps no such checkpoint, or a file is damaged.
    """
    check_kind(kind)
    if not runs:
        raise ValueError("a figure needs at least one run, got none")
    shared = kind == "surface3d" and (wanted or {}).get("plane") in _TOGETHER
    if kind in SINGLE and len(runs) > 1 and not shared:
        raise ValueError(f"a figure {kind!r} shows one run, got {len(runs)}; draw one at a time")
    subject, style = _CHOICES.get(kind, _choose_newest)(
        runs, Question(kind, checkpoint, dict(wanted or {}))
    )
    if kind in _WITH_DROPS and len(runs) == 1:
        style["drops"] = lr_drops(runs[0].steps["step"], runs[0].steps["lr"])
    return Drawing(function=DRAWN[kind], subject=subject, style=style)


@dataclass(frozen=True)
class Question:
    """Which stored results are meant."""

    kind: str
    checkpoint: str | None
    wanted: dict[str, Any]

    def fits(self, stored: StoredResult) -> bool:
        """Whether a result says of itself all that is wanted."""
        for name, value in self.wanted.items():
            said = [where.get(name) for where in (stored.options, stored.facts)]
            if name == "perturbation":
                if not str(said[1] or said[0] or "").lower().startswith(str(value).lower()):
                    return False
            elif value not in said:
                return False
        return True


Choice = tuple[Any, dict[str, Any]]


def labels_of(runs: Sequence[Run]) -> list[str]:
    """What runs are called in one figure: their methods, or names where methods repeat."""
    methods = [run.method for run in runs]
    return methods if len(set(methods)) == len(methods) else [run.name for run in runs]


def _stored(run: Run, question: Question) -> list[StoredResult]:
    """The run's results that are meant, oldest first."""
    name = _STORED.get(question.kind, question.kind)
    step = None if question.checkpoint is None else run.resolve(question.checkpoint)
    found = [
        stored
        for stored in run.results(name)
        if question.fits(stored) and step in (None, stored.facts.get("checkpoint"))
    ]
    if not found:
        at = "" if step is None else f" at step {step}"
        facts = ", ".join(f"{key} {value}" for key, value in question.wanted.items())
        command = _COMMANDS.get(name, name)
        left_out = "".join(f" ({reason})" for reason in run.refused(name))
        raise ValueError(
            f"{run.path} must have a stored {name}{at}{' with ' + facts if facts else ''}, got "
            f"none{left_out}; measure it with `landscape {command} {run.path}`"
        )
    return found


def _choose_newest(runs: Sequence[Run], question: Question) -> Choice:
    found = [_stored(run, question)[-1].load() for run in runs]
    if len(runs) == 1:
        return found[0], {} if question.kind in _COLORLESS else {"color": runs[0].color}
    return _items(runs, found), {}


def _items(runs: Sequence[Run], subjects: Sequence[Any]) -> list[tuple[str, int, Any]]:
    return [
        (label, run.color, subject)
        for label, run, subject in zip(labels_of(runs), runs, subjects, strict=True)
    ]


def _choose_joint(runs: Sequence[Run], question: Question) -> Choice:
    """The newest result of these runs together, from the folder beside the first of them."""
    name = _STORED.get(question.kind, question.kind)
    command = _COMMANDS.get(name, name)
    ids = {run.id for run in runs}
    found = []
    for path in sorted((runs[0].path.parent / JOINT).glob(f"{name}-*.h5")):
        with contextlib.suppress(RunFileError):
            stored = read_stored(path)
            of = set(stored.facts.get("runs", ids))
            if question.fits(stored) and (ids <= of or of <= ids):
                found.append(stored)
    if not found:
        paths = " ".join(str(run.path) for run in runs) if name != "comparison" else "A B"
        raise ValueError(
            f"the runs must have a {name} measured together, got none in "
            f"{runs[0].path.parent / JOINT}; measure it with `landscape {command} {paths}"
            f"{' --plane joint' if name == 'surface' else ''}`"
        )
    result: Any = max(found, key=lambda stored: stored.created).load()
    known = {run.name: run.color for run in runs}
    labels = getattr(result, "path_labels", ())
    style = {"color": [known[label] for label in labels]} if known.keys() >= set(labels) else {}
    return result, style if labels else {}


def _choose_surface(runs: Sequence[Run], question: Question) -> Choice:
    """Each run's own surface, or the one that they share where that plane is wanted."""
    together = question.wanted.get("plane") in _TOGETHER
    return (_choose_joint if together else _choose_newest)(runs, question)


def _choose_density(runs: Sequence[Run], question: Question) -> Choice:
    """Each run's density, with the eigenpairs found at the same checkpoint on the same data."""
    subject, style = _choose_newest(runs, question)
    densities = [subject] if len(runs) == 1 else [density for _, _, density in subject]
    found = [_eigenpairs(run, d) for run, d in zip(runs, densities, strict=True)]
    if any(found):
        style["spectrum"] = found[0] if len(runs) == 1 else found
    return subject, style


def _eigenpairs(run: Run, density: Any) -> Result | None:
    """The newest eigenpairs of the operator that a density is of."""
    same = ("checkpoint", "data_digest", "bn", "operator", "loss")
    for stored in reversed(run.results("spectrum")):
        if all(stored.facts.get(name) == density.facts.get(name) for name in same):
            return stored.load()
    return None


def _by_checkpoint(found: Sequence[StoredResult]) -> list[tuple[int, StoredResult]]:
    """The newest result of each checkpoint, in order of steps."""
    newest = {int(stored.facts.get("checkpoint", 0)): stored for stored in found}
    return sorted(newest.items(), key=lambda pair: pair[0])


def _alike(found: Sequence[StoredResult]) -> list[StoredResult]:
    """Those measured alike at the most checkpoints; the later group wins a tie."""
    groups: dict[str, list[StoredResult]] = {}
    for stored in found:
        asked = {k: v for k, v in stored.options.items() if k not in ("checkpoint", "k")}
        groups.setdefault(str(sorted(asked.items())), []).append(stored)
    return max(reversed(groups.values()), key=lambda group: len(_by_checkpoint(group)))


def _choose_eigenvalues(runs: Sequence[Run], question: Question) -> Choice:
    histories = [
        [(step, stored.load()) for step, stored in _by_checkpoint(_alike(_stored(run, question)))]
        for run in runs
    ]
    if len(runs) == 1:
        return histories[0], {"color": runs[0].color}
    return _items(runs, histories), {}


def _choose_consistency(runs: Sequence[Run], question: Question) -> Choice:
    """The frozen protocol over checkpoints: one line per perturbation, or per run its own.

    A run that trained with no perturbation is left out beside runs that did.
    """
    style = _PARTS.get(question.kind, {})
    if len(runs) == 1:
        groups = _by_perturbation(_stored(runs[0], question))
        if not groups:
            return _choose_newest(runs, replace(question, kind="cosines"))
        items = [(label, perturbation_color(label), group) for label, group in groups.items()]
        return items, dict(style)
    groups = [_by_perturbation(_stored(run, question)) for run in runs]
    asked = "perturbation" in question.wanted
    chosen = [
        (run, next(iter(group.values()), []) if asked else _own(run, group))
        for run, group in zip(runs, groups, strict=True)
    ]
    chosen = [(run, group) for run, group in chosen if group]
    if not chosen:
        raise ValueError(
            "no run was trained with a perturbation whose consistency is stored; "
            "draw one run at a time"
        )
    return _items([run for run, _ in chosen], [group for _, group in chosen]), dict(style)


def _choose_offset(runs: Sequence[Run], question: Question) -> Choice:
    """The line scan of the last checkpoint measured: one per perturbation, or per run its own."""
    items, _ = _choose_consistency(runs, question)
    return [(label, color, group[-1]) for label, color, group in items], {}


def _by_perturbation(found: Sequence[StoredResult]) -> dict[str, list[Result]]:
    """Results of the frozen protocol by perturbation, newest per checkpoint."""
    groups: dict[str, list[StoredResult]] = {}
    for stored in found:
        if stored.options.get("protocol", "frozen") == "frozen":
            groups.setdefault(str(stored.options.get("perturbation", "")), []).append(stored)
    return {
        label: [stored.load() for _, stored in _by_checkpoint(group)]
        for label, group in sorted(groups.items(), key=lambda item: perturbation_color(item[0]))
    }


def _own(run: Run, groups: dict[str, list[Result]]) -> list[Result]:
    """The group of the perturbation that a run was trained with; AACE goes before SAM."""
    if names := trained_with(run.method):
        own = (g for label, g in groups.items() if label.upper().startswith(names[0]))
        return next(own, [])
    return []


def _choose_directions(runs: Sequence[Run], question: Question) -> Choice:
    """Each run's own; a run that recorded no perturbation is left out beside runs that did."""
    known = [run for run in runs if run.results("directions") or run.recorded_steps.size]
    return _choose_newest(known or runs, question)


def _choose_steps(runs: Sequence[Run], question: Question) -> Choice:
    del question
    if silent := [run.name for run in runs if not len(run.steps["step"])]:
        raise ValueError(
            f"a figure 'steps' needs rows of steps, got none in {', '.join(silent)}; was it "
            "imported?"
        )
    if len(runs) == 1:
        return runs[0].steps, {"color": runs[0].color}
    return _items(runs, [run.steps for run in runs]), {}


_CHOICES: dict[str, Callable[[Sequence[Run], Question], Choice]] = {
    "surface": _choose_surface,
    "surface3d": _choose_surface,
    "barrier": _choose_joint,
    "curve": _choose_joint,
    "comparison": _choose_joint,
    "claim": _choose_joint,
    "density": _choose_density,
    "eigenvalues": _choose_eigenvalues,
    **dict.fromkeys(_BY_CHECKPOINT, _choose_consistency),
    "offset": _choose_offset,
    "directions": _choose_directions,
    "steps": _choose_steps,
}
