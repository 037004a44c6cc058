"""What a surface or a profile can be drawn of: a quantity's name, its values and its words."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landscape.results import Profile, Surface
from landscape.terminal import near

RATIO = "|λmin/λmax|"


@dataclass(frozen=True)
class Quantity:
    """One thing that is drawn."""

    name: str
    """What a figure's keyword and an address call it; a metric's own name."""
    title: str
    """On axes and color bars."""
    scale: str | None = "linear"
    """The scale where none is asked for; None is logarithmic where the values allow it."""
    limits: tuple[float, float] | None = None
    """The limits where none are asked for; None follows the values."""
    fraction: bool = False
    """Whether it is written as a percentage."""
    test: str = ""
    """Name of the same quantity on the test set."""

    @property
    def form(self) -> str:
        """How plotly writes a value."""
        return ".1%" if self.fraction else ".3~g"


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("loss", "loss", scale=None, test="test_loss"),
        Quantity("test_loss", "test loss", scale=None),
        Quantity("accuracy", "accuracy", fraction=True, test="test_accuracy"),
        Quantity("test_accuracy", "test accuracy", fraction=True),
        Quantity("convexity", RATIO, limits=(0.0, 1.0)),
        Quantity("lambda_max", "λmax", scale=None),
    )
}
"""What has a field or formula of its own; metrics go by their names."""

RISE = Quantity("rise", "loss − loss at 0", test="test_rise")
_TEST_RISE = Quantity("test_rise", "test loss − test loss at 0")
_RISES = {"rise": (RISE, "loss"), "test_rise": (_TEST_RISE, "test_loss")}


def quantities_of(result: Surface | Profile) -> tuple[str, ...]:
    """Names of what was measured and can be drawn, loss first."""
    own = [name for name in QUANTITIES if name == "loss" or _measured(result, name)]
    metrics = [name for name in result.metric_names if name not in QUANTITIES]
    return (*own, *metrics)


def quantity_of(result: Surface | Profile, name: str) -> Quantity:
    """The quantity of a name.

    Raises:
        ValueError: If the result has no such quantity, or it was not measured.
    """
    if name in QUANTITIES:
        if name != "loss" and not _measured(result, name):
            title = QUANTITIES[name].title
            raise ValueError(
                f"{title} must be measured to be drawn, got only NaN; draw quantity='loss'"
            )
        return QUANTITIES[name]
    if isinstance(result, Profile) and name in _RISES:
        return _RISES[name][0]
    if name in result.metric_names:
        test = f"test {name}" if f"test {name}" in result.metric_names else ""
        return Quantity(name, name, test=test)
    known = quantities_of(result)
    more = (RISE.name,) if isinstance(result, Profile) else ()
    raise ValueError(
        f"quantity must be one of {', '.join((*more, *known))}, got {name!r}"
        f"{near(name, (*more, *known))}"
    )


def counterpart(result: Surface | Profile, name: str) -> str | None:
    """Name of the same quantity on the test set, or None where it was not measured."""
    other = quantity_of(result, name).test
    source = _RISES[other][1] if other in _RISES else other
    return other if other and (source in result.metric_names or _measured(result, source)) else None


def values_of(result: Surface | Profile, name: str) -> np.ndarray:
    """The values of a quantity in the shape of the loss; NaN where there is none.

    The convexity ratio is left out where the largest eigenvalue does not exceed its residual: the
    ratio of two rounding errors says nothing. A rise is that above the point nearest to 0, of each
    repeat by itself.

    Raises:
        ValueError: If the result has no such quantity, or it was not measured.

    Source: Li et al. 2018, section 6 and figure 7 (convexity).
    """
    quantity_of(result, name)
    if isinstance(result, Profile) and name in _RISES:
        rows = values_of(result, _RISES[name][1])
        rows = np.where(np.isfinite(rows), rows, np.nan)
        return rows - rows[:, [int(np.argmin(np.abs(result.alpha)))]]
    if name in result.metric_names and name not in QUANTITIES:
        return result.metrics[result.metric_names.index(name)]
    return _VALUES[name](result)


def _measured(result: Surface | Profile, name: str) -> bool:
    """Whether an array of the result was measured; where all diverged it counts as measured."""
    array = result.lambda_max if name == "convexity" else getattr(result, name, np.empty(0))
    if not array.size:
        return False
    return bool(np.isfinite(array).any() or not np.isfinite(result.loss).any())


def _convexity(result: Surface | Profile) -> np.ndarray:
    noise = np.nan_to_num(result.lambda_residual) if result.lambda_residual.size else 0.0
    known = np.abs(result.lambda_max) > noise
    empty = np.full(result.lambda_max.shape, np.nan)
    return np.divide(np.abs(result.lambda_min), np.abs(result.lambda_max), where=known, out=empty)


def _only_where_finite(name: str) -> Callable[[Surface | Profile], np.ndarray]:
    """An accuracy means nothing where the outputs are not finite."""

    def values(result: Surface | Profile) -> np.ndarray:
        on_test = name == "test_accuracy" and result.test_loss.size
        loss = result.test_loss if on_test else result.loss
        return np.where(np.isfinite(loss), getattr(result, name), np.nan)

    return values


_VALUES: dict[str, Callable[[Surface | Profile], np.ndarray]] = {
    "loss": lambda result: result.loss,
    "test_loss": lambda result: result.test_loss,
    "accuracy": _only_where_finite("accuracy"),
    "test_accuracy": _only_where_finite("test_accuracy"),
    "convexity": _convexity,
    "lambda_max": lambda result: result.lambda_max,
}
