"""How a line or a plane was chosen, and how points on it were evaluated, in words."""

from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.figures.numbers import count, number, percent, short

Rows = list[tuple[str, str]]

_DIRECTIONS = {
    "gradient": "the gradient",
    "given": "a given direction",
    "sharpest": "the sharpest direction",
    **{
        name: f"the {name.upper()} perturbation"
        for name in ("sam", "usam", "asam", "aace", "gsam", "le-sam")
    },
}
_PATHS = {
    "plain": "one batch after the other",
}


def fact(facts: dict[str, Any], name: str) -> str:
    """A fact as text, or "" where it is not stored."""
    value = facts.get(name)
    return "" if value is None else str(value)


def listed(words: list[str]) -> str:
    """Words as a list: "a", "a and b", "a, b and c"."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def plane_text(facts: dict[str, Any]) -> str:
    """How the line or plane was chosen, in words."""
    plane, through = fact(facts, "plane"), [str(name) for name in facts.get("through", [])]
    if plane == "trajectory":
        size = len(facts["checkpoints"]) if "checkpoints" in facts else None
        of = f"{size} checkpoints" if size else "the checkpoints"
        return f"first two principal components of {of}"
    if plane == "joint":
        names = facts.get("plane_run_names", [])
        of = f"{len(names)} runs" if names else "several runs"
        return f"first two principal components of the checkpoints of {of}"
    if plane == "hessian":
        return "two top eigenvectors of the Hessian"
    if plane == "minima":
        return f"through {listed(through)}" if through else "through the marked minima"
    if plane == "given":
        return "given directions"
    if plane == "random":
        return "random directions"
    return " and ".join(_DIRECTIONS.get(part, part) for part in plane.split(" and "))


def on_plane(facts: dict[str, Any]) -> str:
    """Which plane a surface lies on, for a caption: begins with a comma, or is ""."""
    plane = plane_text(facts)
    if not plane:
        return ""
    if facts["plane"] == "minima":
        text = f", on the plane {plane}"
    else:
        the = "the " if plane.startswith(("first", "two top")) else ""
        text = f", on the plane of {the}{plane}"
    if "variance" in facts:
        text += f", which hold {percent(float(np.sum(facts['variance'])))} of the "
        text += "paths' variance" if facts["plane"] == "joint" else "path's variance"
        if "variance_null" in facts:
            null = percent(float(np.sum(facts["variance_null"])), 0)
            text += f" (a random walk with these steps: {null})"
    return text + _made(facts)


def along_line(facts: dict[str, Any], repeats: int) -> str:
    """Which line or lines a profile lies on, for a caption."""
    plane, normal = fact(facts, "plane"), facts.get("normalization")
    normalized = f"{normal}-normalized " if normal and normal != "none" else ""
    if plane in ("", "random"):
        kind = f"{normalized}{'random ' if plane else ''}direction"
        text = f"{repeats} {kind}s" if repeats > 1 else f"one {kind}"
        return text + _moved(facts)
    if plane == "minima":
        return f"the line {plane_text(facts)}"
    if plane == "hessian":
        return "the top eigenvector of the Hessian"
    return (plane_text(facts) if plane != "given" else _DIRECTIONS["given"]) + _moved(facts)


def _made(facts: dict[str, Any]) -> str:
    normal = facts.get("normalization")
    text = f", {normal}-normalized" if normal and normal != "none" else ""
    text += ", orthogonalized" if facts.get("orthogonalized") else ""
    text += _moved(facts)
    return text + (", in weight-space distance" if facts.get("unit") == "weight distance" else "")


def _moved(facts: dict[str, Any]) -> str:
    moved = facts.get("parameters_moved") or []
    return f", moving only {listed([str(name) for name in moved])}" if moved else ""


def plane_rows(facts: dict[str, Any]) -> Rows:
    """Rows of an inspector that say how a line or plane was chosen."""
    eigenvalues = facts.get("eigenvalues", [])
    distances = facts.get("distances") or [facts[k] for k in ("distance",) if k in facts]
    return [
        ("Plane", plane_text(facts)),
        ("Variance", _variance(facts)),
        ("Origin", fact(facts, "origin")),
        ("Distances", ", ".join(number(float(v)) for v in distances)),
        ("Eigenvalues", ", ".join(number(float(v)) for v in eigenvalues[:2])),
        ("Eigengap", ", ".join(number(float(v)) for v in facts.get("eigengap", [])[:2])),
        ("Normalization", _normalization(facts)),
        ("Orthogonalized", "yes" if facts.get("orthogonalized") else ""),
        ("Angle", _angle(facts)),
        ("Moved", listed([str(name) for name in facts.get("parameters_moved") or []])),
        ("Unit", "distance in weight space" if facts.get("unit") == "weight distance" else ""),
    ]


def _angle(facts: dict[str, Any]) -> str:
    cosine = facts.get("direction_cosine")
    return "" if cosine is None else f"cosine of the directions {number(float(cosine), 2)}"


def _list(values: Any, form: Callable[[float], str]) -> str:
    return " + ".join(form(float(value)) for value in np.atleast_1d(values))


def _variance(facts: dict[str, Any]) -> str:
    if "variance" not in facts:
        return ""
    text = _list(facts["variance"], lambda v: short(100 * v)) + "\N{NO-BREAK SPACE}%"
    if "variance_null" in facts:
        null = _list(facts["variance_null"], lambda v: short(100 * v, 2))
        text += f", random walk {null}\N{NO-BREAK SPACE}%"
    return text


def _normalization(facts: dict[str, Any]) -> str:
    name = fact(facts, "normalization")
    if not name:
        return ""
    ignored = facts.get("ignore") or []
    return name + (f", without {' and '.join(map(str, ignored))} parameters" if ignored else "")


def precision_text(facts: dict[str, Any]) -> str:
    """The arithmetic, and where it was reduced its measured error, for a caption."""
    dtype, precision = fact(facts, "dtype"), fact(facts, "precision")
    if precision in ("", "full"):
        return dtype
    name = f"{precision} precision" if precision == "mixed" else precision
    error = facts.get("precision_error") or {}
    if not {"points", "rms", "max"} <= error.keys():
        return f"{name}, its error not measured"
    return (
        f"{name} (off from {dtype or 'full precision'} by {_share(error['rms'])} of the loss rms "
        f"and at most {_share(error['max'])}, at {count(error['points'])} points)"
    )


def _share(error: float) -> str:
    """A relative error as a percentage with two digits."""
    return f"{number(100 * float(error), 2)}\N{NO-BREAK SPACE}%"


def interpolation_text(facts: dict[str, Any], evaluated: int, size: int) -> str:
    """How much of a surface is interpolated and how good that is, for a caption."""
    text = f"{count(evaluated)} of {count(size)} points evaluated, the rest interpolated"
    held = facts.get("held_out") or {}
    bound, error = held.get("bound"), held.get("error")
    if bound is not None:
        return f"{text} (95 % of those within {percent(float(bound))}, by {_held(held)})"
    if error is not None:
        return f"{text} (95 % of {_held(held)} within {percent(float(error))})"
    return f"{text}, how well is not known"


def _held(held: dict[str, Any]) -> str:
    size = held.get("points")
    return f"{count(size)} held-out points" if size else "held-out points"


def evaluation_rows(facts: dict[str, Any], evaluated: int = 0, size: int = 0) -> Rows:
    """Rows of an inspector that say how points were evaluated."""
    held = facts.get("held_out") or {}
    tolerance = facts.get("tolerance", held.get("tolerance")) if size else None
    rows = [
        ("Precision", precision_text(facts)),
        ("Tolerance", percent(float(tolerance)) if tolerance is not None else ""),
        ("Interpolation", interpolation_text(facts, evaluated, size) if size else ""),
        ("Evaluated by", _path(facts)),
        ("Chunk", f"{count(facts['chunk'])} samples" if facts.get("chunk") else ""),
        ("Threads", count(facts["threads"]) if facts.get("threads") else ""),
    ]
    origin = facts.get("imported_from") or {}
    if origin:
        rows.append(("Imported from", f"{origin.get('file', '')} ({origin.get('format', '')})"))
        rows += [("Beware", str(warning)) for warning in origin.get("warnings", [])]
    return rows


def _path(facts: dict[str, Any]) -> str:
    path, error = fact(facts, "path"), facts.get("path_error")
    told = _PATHS.get(path, path)
    if path and error is not None and path != "plain":
        told += f", off from the plain one by {_share(error)}"
    note = fact(facts, "path_note")
    return "; ".join(part for part in (told, note) if part)


def imported_text(facts: dict[str, Any]) -> str:
    """Where an imported result comes from and what is wrong with it, or ""."""
    origin = facts.get("imported_from") or {}
    if not origin:
        return ""
    text = f"Imported from {origin.get('file', 'a file')} ({origin.get('format', 'unknown')})"
    warnings = [str(warning).rstrip(".") for warning in origin.get("warnings", [])]
    return text + (f"; {'; '.join(warnings)}." if warnings else ".")
