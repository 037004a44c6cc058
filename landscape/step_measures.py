"""What is measured of every displacement where it lies, on the device, without waiting for it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

LAGS = (10, 100)
"""Lags at whose multiples the exact cosine is measured."""

PRODUCTS = ("ee", "gg", "hh", "eg", "eh", "ep", "pp", "em", "mm", "e10", "k10", "e100", "k100")
"""Inner products of a step. e: displacement, g: gradient, h: perturbed gradient, p: displacement of
the step before, m: sum of the window's unit vectors before, e10: with that of 10 steps before,
k10: of that with itself."""

_COLUMNS = 1 << 17  # numbers of each vector widened to float64 at a time on a CPU, within its cache
_COLUMNS_ELSEWHERE = 1 << 23  # elsewhere a launch costs more than memory


class _Kept(NamedTuple):
    step: int
    vector: Tensor
    square: Tensor


class StepMeasures:
    """Inner products of each step's vectors with each other and with earlier ones.

    It keeps references to three earlier displacements and a sum, each [param].

    Args:
        size: Parameters.
        device: Where vectors lie.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        self._wide = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self._columns = _COLUMNS if device.type == "cpu" else _COLUMNS_ELSEWHERE
        self._nan = torch.full((), math.nan, dtype=self._wide, device=device)
        self._kept: dict[int, _Kept] = {}  # by lag; 1 is the step before
        self._sum: Tensor | None = None
        self._count = torch.zeros((), dtype=self._wide, device=device)

    def measure(self, step: int, e: Tensor | None, g: Tensor | None, h: Tensor | None) -> Tensor:
        """Return the `PRODUCTS` of a step, NaN where a vector is missing; remember e [param]."""
        pairs = {"gg": (g, g), "hh": (h, h)}
        before = {lag: kept for lag, kept in self._kept.items() if kept.step == step - lag}
        due = {lag: kept for lag, kept in before.items() if step % lag == 0}
        if e is not None:
            pairs |= {"ee": (e, e), "eg": (e, g), "eh": (e, h)}
            pairs |= {"em": (e, self._sum), "mm": (self._sum, self._sum)}
            pairs |= {_name("e", lag): (e, kept.vector) for lag, kept in due.items()}
        known = self._inner_products({k: v for k, v in pairs.items() if None not in _present(v)})
        known |= {_name("k", lag): kept.square for lag, kept in due.items()}
        self._remember(step, e, known.get("ee", self._nan))
        return torch.stack([known.get(name, self._nan) for name in PRODUCTS])

    def close_window(self) -> Tensor:
        """Return how many unit vectors were added since the last call, and their sum's square."""
        square = torch.zeros_like(self._count)
        if self._sum is not None:
            square = self._inner_products({"mm": (self._sum, self._sum)})["mm"]
        result = torch.stack([self._count, square])
        self._sum, self._count = None, torch.zeros_like(self._count)
        return result

    def state(self) -> dict[str, Any]:
        """Return copies on the CPU of all that the next step needs."""
        kept = {
            str(lag): {"step": k.step, "vector": k.vector.cpu().clone(), "square": k.square.cpu()}
            for lag, k in self._kept.items()
        }
        total = None if self._sum is None else self._sum.cpu().clone()
        return {"kept": kept, "sum": total, "count": self._count.cpu().clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._kept = {
            int(lag): _Kept(k["step"], k["vector"].to(self._device), k["square"].to(self._device))
            for lag, k in state["kept"].items()
        }
        total = state["sum"]
        self._sum = None if total is None else total.to(self._device, copy=True)
        self._count = state["count"].to(self._device, copy=True)

    def _remember(self, step: int, e: Tensor | None, square: Tensor) -> None:
        for lag in (1, *LAGS):
            if step % lag == 0:
                self._kept.pop(lag, None)
                if e is not None:
                    self._kept[lag] = _Kept(step, e, square)
        if e is None:
            return
        defined = square > 0
        inverse = torch.where(defined, square.rsqrt(), 0.0)
        if self._sum is None:
            self._sum = torch.zeros_like(e)
        self._sum.addcmul_(e, inverse.to(e.dtype))
        self._count = self._count + defined

    def _inner_products(self, pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, Tensor]:
        """Return products in float64, part by part."""
        vectors = list({id(v): v for pair in pairs.values() for v in pair}.values())
        row = {id(vector): number for number, vector in enumerate(vectors)}
        totals = {name: torch.zeros_like(self._nan) for name in pairs}
        width = min(self._columns, self._size)
        # one place for all parts: fresh memory would cost as much as the products
        space = torch.empty(len(vectors), width, dtype=self._wide, device=self._device)
        for start in range(0, self._size, width):
            wide = space[:, : self._size - start]
            for place, vector in zip(wide, vectors, strict=True):
                place.copy_(vector[start : start + width])
            for name, (left, right) in pairs.items():
                totals[name] += torch.dot(wide[row[id(left)]], wide[row[id(right)]])
        return totals


def _present(pair: tuple[Any, Any]) -> list[None]:
    """Return what is missing of a pair; tensors are never compared."""
    return [vector for vector in pair if vector is None]


def _name(letter: str, lag: int) -> str:
    """Return the name of a product with an earlier vector, or of that with itself."""
    if lag == 1:
        return "ep" if letter == "e" else "pp"
    return f"{letter}{lag}"


def cosines_of(products: Mapping[str, float]) -> dict[str, float]:
    """Return the columns of steps.h5 that follow from the `PRODUCTS`; NaN without a length."""
    norms = {name: math.sqrt(value) for name, value in products.items() if value >= 0}

    def cosine(product: str, left: str, right: str) -> float:
        length = norms.get(left, math.nan) * norms.get(right, math.nan)
        return products[product] / length if length != 0 else math.nan

    return {
        "gradient_norm": norms.get("gg", math.nan),
        "displacement_norm": norms.get("ee", math.nan),
        "cosine_previous": cosine("ep", "ee", "pp"),
        "cosine_gradient": cosine("eg", "ee", "gg"),
        "inner_perturbed_gradient": products["eh"],
        "cosine_perturbed_gradient": cosine("eh", "ee", "hh"),
        "cosine_lag_10": cosine("e10", "ee", "k10"),
        "cosine_lag_100": cosine("e100", "ee", "k100"),
        "cosine_mean": cosine("em", "ee", "mm"),
    }


def effective_samples(weights: Tensor) -> Tensor:
    """Return (Σ s)² / (n Σ s²) of weights [sample], between 1/n and 1; NaN where all are zero."""
    wide = weights.detach().reshape(-1).float()
    return wide.sum().square() / (wide.square().sum() * wide.numel())


def agreement(count: float, square: float) -> tuple[float, float]:
    """Return resultant length and mean cosine over pairs of n unit vectors, from ‖their sum‖².

    R = ‖Σu‖ / n and (n R² - 1) / (n - 1), an identity; the latter is NaN for one vector.
    """
    mean_cosine = (square - count) / (count * (count - 1)) if count > 1 else math.nan
    return math.sqrt(square) / count, mean_cosine
