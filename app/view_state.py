"""What the address bar says: one frozen value per view, and the way there and back.

Everything that decides what a page shows stands in the URL, so that a view can be linked and
the browser's back and forward buttons work. Runs and results are named by id and key.
"""

import re
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, quote, urlencode

RUN_PAGES = ("overview", "surface", "spectrum", "consistency")
LIBRARY_PAGES = ("runs", "compare")

VIEWS = ("spectrum", "training", "layers", "sharpness", "stability")
"""Parts of the page of spectra."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What a density's width can be multiplied with."""

_CHOICES = {
    "scale": ("log", "linear"),
    "show": ("split", "contour", "scene"),
    "protocol": ("frozen", "online"),
    "plane": ("random", "trajectory", "hessian"),
    "view": VIEWS,
    "operator": ("hessian", "ggn", "moment"),
    "axis": ("auto", "linear", "symlog", "log"),
}
_ON_PAGE = {
    "runs": ("select", "run"),
    "compare": (
        "select",
        "plane",
        "quantity",
        "scale",
        "run",
        "claim",
        "barrier",
        "curve",
        "joint",
    ),
    "overview": ("step",),
    "surface": ("surface", "show", "quantity", "scale", "step"),
    "spectrum": ("view", "operator", "variant", "axis", "width", "step"),
    "consistency": ("protocol", "radius", "step"),
}
_NAME = re.compile(r"[A-Za-z0-9]{1,64}")
_TEXT = re.compile(r"[^\x00-\x1f]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ViewState:
    """What is shown. A field that doesn't matter on a page doesn't appear in its address."""

    page: str = "runs"
    """One of `LIBRARY_PAGES` or `RUN_PAGES`, or "unknown"."""
    run: str | None = None
    """Id of the run shown; on pages of several runs, of the one the navigation stands on."""
    select: tuple[str, ...] | None = None
    """Ids of the runs chosen or compared; None where nobody has chosen yet."""
    step: int | None = None
    """Checkpoint; None is the last."""
    surface: str | None = None
    """Key of the surface; None is the newest with a path, else the newest."""
    plane: str = "random"
    """Kind of plane compared."""
    quantity: str = "loss"
    """What is drawn of a surface: a name of `landscape.figures.quantities`, or a metric's."""
    scale: str = "log"
    show: str = "split"
    """Panes of the surface page: contour beside 3D, or one of them."""
    protocol: str = "frozen"
    radius: int = 0
    """Which length of ε loss rises are shown at; 0 is its own."""
    view: str = "spectrum"
    """Part of the page of spectra."""
    operator: str = "hessian"
    variant: str | None = None
    """Name of what else makes an operator another one; None is the plain one."""
    axis: str = "auto"
    """Axis of a density: "linear", "symlog", "log" for the spectrum of log |λ|, or "auto"."""
    width: float = 1.0
    """Width of a density's Gaussians, in multiples of the stored one."""
    barrier: str | None = None
    """Keys of the results of several runs that are shown; None is the newest of each kind."""
    curve: str | None = None
    joint: str | None = None
    claim: str | None = None

    def to(self, **changes: object) -> "ViewState":
        """Give the same view with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


_DEFAULTS = {item.name: item.default for item in fields(ViewState)}


_SHOWN_ON = {
    "surface": ("profile", "trajectory"),
    "spectrum": ("density", "trace", "curvature", "sharpness", "stability"),
    "consistency": ("directions", "rise", "offset"),
}
_VIEWS = {"curvature": "training", "sharpness": "sharpness", "stability": "stability"}


def showing(kind: str, run: str | None) -> ViewState:
    """The view of a run that shows a kind of result."""
    page = next((page for page, kinds in _SHOWN_ON.items() if kind in kinds), kind)
    return ViewState(page=page, run=run, view=_VIEWS.get(kind, "spectrum"))


def encode(state: ViewState) -> str:
    """Write a view as path and query. Fields at their default are left out."""
    if state.page in RUN_PAGES:
        path = f"/run/{quote(state.run or '', safe='')}"
        path += "" if state.page == "overview" else f"/{state.page}"
    else:
        path = f"/{state.page}"
    query = []
    for name in _ON_PAGE.get(state.page, ()):
        content = getattr(state, name)
        if content != _DEFAULTS[name]:
            query.append((name, ",".join(content) if isinstance(content, tuple) else content))
    return path + ("?" + urlencode(query, safe=",") if query else "")


def decode(pathname: str | None, search: str | None) -> ViewState:
    """Read a view from an address. What can't be read falls back to its default.

    A page that doesn't exist gives page "unknown"; whether run and surface exist is for the
    store to say.
    """
    parts = [part for part in (pathname or "/").split("/") if part]
    page, run = _page(parts)
    state = ViewState(page=page, run=run)
    if page == "unknown":
        return state
    for name, text in parse_qsl((search or "").lstrip("?"), keep_blank_values=True)[:32]:
        if name in _ON_PAGE[page]:
            state = state.to(**_field(name, text))
    return state


def _page(parts: list[str]) -> tuple[str, str | None]:
    match parts:
        case []:
            return "runs", None
        case [page] if page in LIBRARY_PAGES:
            return page, None
        case ["run", run]:
            return "overview", run
        case ["run", run, page] if page in RUN_PAGES:
            return page, run
    return "unknown", None


def _field(name: str, text: str) -> dict[str, object]:
    if name in _CHOICES:
        return {name: text} if text in _CHOICES[name] else {}
    if name == "step":
        return {name: int(text)} if re.fullmatch(r"[0-9]{1,12}", text) else {}
    if name == "radius":
        return {name: int(text)} if re.fullmatch(r"[0-9]{1,2}", text) else {}
    if name == "width":
        return {name: float(text)} if text in map(str, WIDTHS) else {}
    if name == "select":
        ids = (part for part in text.split(",")[:64] if _NAME.fullmatch(part))
        return {name: tuple(dict.fromkeys(ids))}
    allowed = _TEXT if name == "quantity" else _NAME
    return {name: text} if allowed.fullmatch(text) else {}
