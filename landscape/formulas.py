"""What checks are written with: functions of theta as objectives, and quantities to compare."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from landscape.objectives import Objective


class Quantity(NamedTuple):
    """A number that is known, and what was measured."""

    name: str
    expected: float
    got: float
    tolerance: float


def largest_error(
    name: str, exact: ArrayLike, got: ArrayLike, tolerance: float = 1e-12
) -> Quantity:
    """Return the largest difference of two arrays as a quantity expected to be 0."""
    largest = float(np.abs(np.asarray(got) - np.asarray(exact)).max())
    return Quantity(f"{name}: largest error", 0.0, largest, tolerance)


class Formula(nn.Module):
    """A function of its one parameter, theta, as a model: the same value for every sample."""

    def __init__(self, function: Callable[[Tensor], Tensor], theta: np.ndarray | list) -> None:
        super().__init__()
        self.function = function
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the value once per sample."""
        return self.function(self.theta).expand(len(inputs))


class QuadraticOfLayer(nn.Module):
    """½ θᵀA θ of the parameters θ of a linear layer: a quadratic that has filters."""

    def __init__(self, layer: nn.Linear, matrix: Tensor) -> None:
        super().__init__()
        self.layer, self.matrix = layer, matrix

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the value once per sample."""
        theta = torch.cat([self.layer.weight.reshape(-1), self.layer.bias])
        return (theta @ self.matrix @ theta / 2).expand(len(inputs))


def formula_objective(function: Callable[[Tensor], Tensor], theta: np.ndarray | list) -> Objective:
    """Return the objective `function(theta)` in float64, at this theta [param].

    Example:
        >>> formula_objective(lambda w: w @ w, [3.0, 4.0])()
        25.0
    """
    data = (torch.zeros(2, 1), torch.zeros(2))
    return Objective(Formula(function, theta), mean_output, data)


def mean_output(output: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the output, whatever the targets: the loss of a model that is its loss."""
    return output.mean()
