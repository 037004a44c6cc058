"""A model of your own, in Python and from the command line.

python examples/own_model.py                    # trains it, measures it, saves its weights
landscape surface --problem examples/own_model.py:make_problem --state own_model.safetensors
"""

from pathlib import Path

import torch
from safetensors.torch import save_model
from sklearn.datasets import load_digits
from torch import nn

from landscape import Objective, Problem, find_eigenpairs, measure_surface, random_plane


def make_problem() -> Problem:
    """Return the model, its loss and its data; the command line calls this."""
    digits = load_digits()
    inputs = torch.from_numpy(digits.data).float() / 16
    targets = torch.from_numpy(digits.target)
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return Problem(model, nn.CrossEntropyLoss(), train=(inputs, targets))


def train(problem: Problem, steps: int = 200) -> None:
    """Train it as you always do; this loop stands for yours."""
    inputs, targets = problem.train
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss_fn(problem.model(inputs), targets).backward()
        optimizer.step()


def main(weights: Path = Path("own_model.safetensors")) -> None:
    """Train, save the weights, and look at the loss around them."""
    problem = make_problem()
    train(problem)
    save_model(problem.model, str(weights))

    objective = Objective(problem.model, problem.loss_fn, problem.train)
    plane = random_plane(objective, seed=0)
    surface = measure_surface(objective, plane, extent=1.0, points=21)
    surface.plot().write_html(weights.with_suffix(".html"))  # surface.figure() is the paper's
    spectrum = find_eigenpairs(objective, k=5, which="LM", tolerance=1e-3, seed=0)

    print(f"loss {objective():.4f} at the weights, up to {surface.loss.max():.2f} around them")
    print("largest Hessian eigenvalues", *(f"{value:.3g}" for value in spectrum.eigenvalues))
    print(f"weights in {weights}, the surface in {weights.with_suffix('.html')}")


if __name__ == "__main__":
    main()
