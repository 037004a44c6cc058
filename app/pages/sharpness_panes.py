"""Panes of the sharpness table and of the stability multipliers."""

from typing import Any

import numpy as np
from dash import html

from landscape.figures import interactive as figures
from landscape.figures.numbers import NONE, number
from landscape.figures.screen_sharpness import (
    ROW,
    interval_text,
    ratio_text,
    value_text,
)
from landscape.figures.screen_stability import loose_multipliers, multipliers_of
from landscape.results import Sharpness

from .. import panes
from ..panes import Pane, key
from .spectrum_panes import download

_MARKS = ("✕", "+", "✳", "Y")


def table(page: Any) -> Pane:
    """Every measure with its interval, and what each change of the audit does to it."""

    def draw() -> panes.Body:
        return sharpness_table(page.load("sharpness"))

    return Pane(
        name="sharpness",
        title="Sharpness",
        note="≥: a lower bound; audit: value after a change that leaves the function, × before",
        body=page.body(draw),
        download=download(page, "sharpness"),
    )


def sharpness_table(sharpness: Sharpness) -> html.Div:
    """The table of one checkpoint: no ranking, no color."""
    audits = sharpness.audit_names if sharpness.audit.size else ()
    heads = ["measure", "setting", "value", "95 % interval", *audits]
    rows = []
    settings = sharpness.settings or ("",) * len(sharpness.names)
    for at, (name, setting) in enumerate(zip(sharpness.names, settings, strict=True)):
        ratios = [ratio_text(float(sharpness.audit[at, i])) for i in range(len(audits))]
        rows.append(
            (
                name,
                setting or NONE,
                value_text(sharpness, at),
                interval_text(sharpness, at),
                *ratios,
            )
        )
    return panes.table(heads, rows, label="sharpness", words=2)


def dots(page: Any) -> Pane:
    """The same as dots with intervals, one row per measure."""

    def draw() -> panes.Body:
        return figures.plot_sharpness(
            page.load("sharpness"), theme=page.theme, color=page.run.color
        )

    sharpness = page.found("sharpness")
    keys = []
    if sharpness is not None:
        keys = [key("value", page.color, "disc"), key("negative", page.color, "hollow")]
        keys = keys[: 1 + bool((sharpness.value < 0).any())]
        audits = sharpness.audit_names if sharpness.audit.size else ()
        keys += [
            panes.mark_key(f"after {name}", _MARKS[at % len(_MARKS)])
            for at, name in enumerate(audits)
        ]
    return Pane(
        name="measures",
        title="Values and audit",
        note="only dots of one row compare",
        keys=keys,
        body=page.body(draw),
        download=download(page, "sharpness"),
    )


def dots_height(page: Any) -> int:
    """Height of the dots: one row per measure."""
    sharpness = page.found("sharpness")
    return 240 if sharpness is None else 60 + ROW * max(3, len(sharpness.names))


def multipliers(page: Any) -> Pane:
    """The multipliers in the complex plane."""

    def draw() -> panes.Body:
        return figures.plot_stability(
            page.load("stability"), theme=page.theme, color=page.run.color
        )

    stability = page.found("stability")
    return Pane(
        name="multipliers",
        title="Multipliers of the update",
        note=stability.update if stability is not None else "",
        body=page.body(draw),
        download=download(page, "stability"),
    )


def multiplier_table(page: Any) -> Pane:
    """The multipliers found, with their residuals."""

    def draw() -> panes.Body:
        stability = page.load("stability")
        loose, values = loose_multipliers(stability), multipliers_of(stability)
        rows = [
            (
                str(rank),
                number(float(abs(mu)), 6),
                number(float(np.degrees(np.angle(mu))), 3) + "°",
                number(float(residual), 1) + ("*" if rough else ""),
            )
            for rank, (mu, residual, rough) in enumerate(
                zip(values, stability.residuals, loose, strict=True), 1
            )
        ]
        body = panes.table(("#", "|μ|", "angle", "residual"), rows, label="multipliers")
        if not loose.any():
            return body
        limit = f"{number(stability.tolerance, 1)} of |μ|"
        return html.Div(
            [body, html.P(f"* not converged: above {limit}", className="table-note")],
            className="noted",
        )

    return Pane(
        name="multiplier list",
        title="Found",
        body=page.body(draw),
        download=download(page, "stability"),
        grow="300px",
    )
