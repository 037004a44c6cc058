"""Numbers of perturbation directions beside their nulls, for the inspector."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from dash.development.base_component import Component

from landscape.figures.measure_lines import rise_rows, steep_rows
from landscape.figures.numbers import number
from landscape.results import Consistency, Offset, Rise

from .. import panes

_INDENT = "\N{EM SPACE}"
Row = tuple[str, Callable[[Any], float]]


def numbers_table(results: dict[str, Consistency]) -> Component:
    """Metric by perturbation, with the nulls as rows of their own."""
    rows: list[Row] = [
        ("mean cos c̄", lambda r: r.mean_cosine),
        ("  95 %, low", lambda r: r.interval_low),
        ("  95 %, high", lambda r: r.interval_high),
        ("null of c̄, low", lambda r: r.null_low),
        ("null of c̄, high", lambda r: r.null_high),
        ("  noise scale predicts", lambda r: r.predicted_cosine),
        ("resultant R", lambda r: r.resultant_length),
        ("  at random, 1/√n", lambda r: len(r.norms) ** -0.5),
        ("effective directions", lambda r: r.participation),
        ("cos(ε, w)", lambda r: _mean(r.radial)),
        ("effective share", lambda r: _mean(r.effective_share)),
        ("median ‖ε‖", lambda r: _median(r.norms)),
        ("median rise, nats", lambda r: _median(r.loss_rise)),
    ]
    return _table(results, rows, "consistency beside its null")


def rise_table(results: dict[str, Rise]) -> Component:
    """Mean loss rises and curvature by perturbation, each beside its reference."""
    places = list(dict.fromkeys(place for r in results.values() for place in r.places))
    rows: list[Row] = []
    for place in places:
        rows.append((place, lambda r, p=place: _mean(rise_rows(r, p, np.nan)[0])))
        rows.append(("  to first order", lambda r, p=place: _mean(rise_rows(r, p, np.nan)[1])))
    for quantity, name in (("share", "share of ε² in top"), ("cosine", "|cos v₁|")):
        rows.append((name, lambda r, q=quantity: _mean(steep_rows(r, q)[0])))
        rows.append(("  of the gradient", lambda r, q=quantity: _mean(steep_rows(r, q)[1])))
    rows.append(("uᵀHu / λ₁", lambda r: _mean(steep_rows(r, "rayleigh")[0])))
    rows.append(("  of the gradient", lambda r: _mean(steep_rows(r, "rayleigh")[1])))
    return _table(results, rows, "loss rise, in nats, beside its reference")


def offset_table(results: dict[str, Offset]) -> Component:
    """Where each loss is smallest along the mean ε and what w + ε gains, with intervals."""
    curves = list(dict.fromkeys(curve for r in results.values() for curve in r.curves))
    rows: list[Row] = []
    for curve in curves:
        short = curve.replace("temperature scaled", "scaled").replace(" loss", "")
        for title, field in ((f"minimum, {short}", "minimum"), (f"gain, {short}", "gain")):
            for name, end in ((title, ""), ("  95 %, low", "_low"), ("  95 %, high", "_high")):
                rows.append((name, lambda r, c=curve, f=field + end: _of_curve(r, c, f)))
    return _table(results, rows, "minimum along the mean ε and gain of w + ε, in nats")


def _of_curve(result: Offset, curve: str, field: str) -> float:
    if curve not in result.curves:
        return float("nan")
    return float(getattr(result, field)[result.curves.index(curve)])


def _table(results: dict[str, Any], rows: Sequence[Row], label: str) -> Component:
    """A table without the rows that no perturbation has a number for."""
    found = [(name, [pick(result) for result in results.values()]) for name, pick in rows]
    kept = [(name, values) for name, values in found if np.isfinite(values).any()]
    heads = ["", *[perturbation.split()[0] for perturbation in results]]
    written = [
        (name.replace("  ", _INDENT), *(number(value, 2) for value in values))
        for name, values in kept
    ]
    return panes.table(heads, written, label=label)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
