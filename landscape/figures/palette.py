"""Colors of screen and paper: tokens of the two themes, run colors, color maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The named colors of one theme, as `#RRGGBB`."""

    page: str
    surface: str
    raised: str
    sunken: str
    line: str
    line_strong: str
    control: str
    text: str
    muted: str
    faint: str
    accent: str
    accent_soft: str
    on_accent: str
    ok: str
    ok_soft: str
    warn: str
    warn_soft: str
    err: str
    err_soft: str
    grid: str
    zero: str
    diverged: str
    null: str


LIGHT = Tokens(
    page="#F6F7F9",
    surface="#FFFFFF",
    raised="#FFFFFF",
    sunken="#EEF1F5",
    line="#E1E6EC",
    line_strong="#C3CBD6",
    control="#838E9D",
    text="#18202B",
    muted="#525F70",
    faint="#5E6A7B",
    accent="#1F5C99",
    accent_soft="#E4EEF8",
    on_accent="#FFFFFF",
    ok="#1B7346",
    ok_soft="#E3F3EA",
    warn="#8A5200",
    warn_soft="#FBF0DC",
    err="#B3261E",
    err_soft="#FBE9E7",
    grid="#E8ECF1",
    zero="#AEB8C5",
    diverged="#C9CED6",
    null="#525F70",
)
DARK = Tokens(
    page="#0F1318",
    surface="#161B21",
    raised="#1E242C",
    sunken="#0B0E12",
    line="#272E38",
    line_strong="#3C4654",
    control="#6C7888",
    text="#E3E8EF",
    muted="#A5B0BE",
    faint="#8A96A5",
    accent="#86B6EC",
    accent_soft="#1B2C40",
    on_accent="#0F1318",
    ok="#63C592",
    ok_soft="#14291F",
    warn="#E0B062",
    warn_soft="#2C2415",
    err="#F1897D",
    err_soft="#33191A",
    grid="#232A33",
    zero="#4A5563",
    diverged="#3B434E",
    null="#A5B0BE",
)
THEMES = {"light": LIGHT, "dark": DARK}
INK = LIGHT.text
"""Lines and words on the maps, which are the same in both themes, and on paper."""


def tokens(theme: str) -> Tokens:
    """The colors of a theme.

    Raises:
        ValueError: If the theme is neither "light" nor "dark".
    """
    if theme not in THEMES:
        raise ValueError(f"theme must be 'light' or 'dark', got {theme!r}")
    return THEMES[theme]


@dataclass(frozen=True, kw_only=True)
class RunColor:
    """The identity of a run in every figure: color, marker and dash repeat it."""

    name: str
    light: str
    dark: str
    marker: str
    """plotly symbol."""
    paper_marker: str
    """matplotlib marker."""
    dash: tuple[float, ...]
    """Dash and gap lengths in px or pt; empty is solid."""

    def on(self, theme: str) -> str:
        """The run's color on the ground of a theme."""
        tokens(theme)
        return self.light if theme == "light" else self.dark

    @property
    def plotly_dash(self) -> str:
        """The dash as plotly writes it."""
        return ",".join(f"{length:g}px" for length in self.dash) or "solid"


def _run(name: str, light: str, dark: str, markers: str, dash: tuple[float, ...] = ()) -> RunColor:
    marker, paper_marker = markers.split()
    return RunColor(
        name=name, light=light, dark=dark, marker=marker, paper_marker=paper_marker, dash=dash
    )


RUNS = (
    _run("blue", "#244E95", "#4A8DF6", "circle o"),
    _run("vermilion", "#D93A18", "#F26D2B", "diamond D"),
    _run("violet", "#9A76CE", "#CD99CF", "square s"),
    _run("green", "#0BA481", "#8DD0A0", "triangle-up ^", (6, 3)),
    _run("ochre", "#BE853F", "#FBB765", "cross P", (6, 3)),
    _run("steel", "#4A82A4", "#80DCFE", "star *", (2, 2)),
    _run("rose", "#BE2A5D", "#DB7890", "hexagon h", (2, 2)),
    _run("slate", "#878B97", "#DFE4EE", "pentagon p", (6, 3, 2, 3)),
)
"""Run colors in their order of use; a run's color index picks one, and eight runs later repeats."""

WORD_RUNS = frozenset({0, 1, 6})
"""Color indices that reach 4.5:1 on white and so may color words in the light theme."""


def run_color(color: int) -> RunColor:
    """The identity that belongs to a run's color index."""
    return RUNS[color % len(RUNS)]


BASIN_STOPS = (
    "#212143 #2D326F #314A8E #2F6496 #357C98 #44929B #5BA79B #7BB999 #A3C995 #D2D89A #FCEDBC"
).split()
"""Loss and every positive quantity, low is dark; the same in both themes and in print."""

TIDE_STOPS = {
    "light": (
        "#24509B #4671BC #6E91D0 #9BB0D7 #C5CCDE #EEEAEA #EBCABB #E5A583 #D77C4B #BA581F #923900"
    ).split(),
    "dark": (
        "#8DC2EE #699EC9 #537EA0 #475F73 #3B444C #2D2C2B #523F31 #795032 #A46536 #CE7F45 #F7A264"
    ).split(),
}
"""Signed quantities, with limits symmetric about 0; print uses the light one."""


def rgb(color: str) -> np.ndarray:
    """Red, green, blue in 0..255 of a `#RRGGBB` color [3]."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def hexadecimal(channels: np.ndarray) -> str:
    """The `#RRGGBB` text of red, green, blue in 0..255 [3]."""
    return "#" + "".join(f"{round(float(channel)):02X}" for channel in channels)


def _expand(stops: Sequence[str]) -> np.ndarray:
    colors = np.stack([rgb(stop) for stop in stops])
    at = np.linspace(0, len(stops) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(stops)), colors[:, i]) for i in range(3)], axis=1)


BASIN = _expand(BASIN_STOPS)
"""The basin map as red, green, blue in 0..255 [256, 3]."""
TIDE = {theme: _expand(stops) for theme, stops in TIDE_STOPS.items()}
"""The tide map of each theme, red, green, blue in 0..255 [256, 3]."""


def map_color(fraction: float, colors: np.ndarray = BASIN) -> str:
    """The color at a fraction 0..1 of a map [256, 3]."""
    return hexadecimal(colors[round(float(np.clip(fraction, 0, 1)) * 255)])


def gradient_stops(stops: Sequence[str] = tuple(BASIN_STOPS)) -> list[tuple[float, str]]:
    """The stops of a map as (fraction, color): plotly's colorscale, and a CSS gradient's stops."""
    return [(i / (len(stops) - 1), color) for i, color in enumerate(stops)]


def blend(color: str, ground: str, share: float) -> str:
    """The color mixed with `share` of the ground: a transparency that needs no alpha."""
    return hexadecimal((1 - share) * rgb(color) + share * rgb(ground))


def translucent(color: str, alpha: float) -> str:
    """The color with an alpha, as CSS and plotly write it."""
    red, green, blue = (round(float(channel)) for channel in rgb(color))
    return f"rgba({red},{green},{blue},{alpha:g})"


def is_light(color: str) -> bool:
    """Whether ink reads better than white on a color (WCAG relative luminance above 0.30)."""
    linear = rgb(color) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return bool(linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.30)
