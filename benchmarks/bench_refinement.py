"""Does `tolerance=` keep its word? Surfaces of small nets, known at every point.

Each surface is evaluated everywhere, then refined to several tolerances, and the stated error is
held against the true one. Writes refinement.json, .pdf and .png; the exit status is 1 where the
stated error holds for less than 95 % of the surfaces. About 6 minutes on 2 cores.
"""

import argparse
import itertools
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refinement_figure import draw
from torch import Tensor, nn

from landscape.objectives import Objective, flatten
from landscape.planes import Plane, hessian_plane, random_plane
from landscape.refinement import QUANTILE, Refinement
from training.data import load_data, normalize, training_subset
from training.models import build_model

POINTS = 51
SAMPLES = 128
SEEDS = (0, 1, 2)
UPDATES = {"barely trained": 8, "trained": 400}
TOLERANCES = (0.005, 0.01, 0.02, 0.05, 0.1)
OUT = Path(__file__).parent / "refinement"


def smooth_mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10)
    )


def max_pool_cnn(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )


NETS = {
    "smooth MLP": smooth_mlp,
    "ReLU MLP": lambda seed: build_model("mlp8", classes=10, channels=1, seed=seed),
    "BatchNorm CNN": lambda seed: build_model("conv8", classes=10, channels=1, seed=seed),
    "max-pool CNN": max_pool_cnn,
}


@dataclass(frozen=True)
class Truth:
    """One surface, evaluated everywhere [a, b]."""

    name: str
    loss: np.ndarray
    accuracy: np.ndarray


def train(model: nn.Module, data: tuple[Tensor, Tensor], updates: int) -> Tensor:
    """Train on all data at once; gives the parameters along the way [checkpoint, param]."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    thetas = [flatten(model).clone()]
    for update in range(updates):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
        if (update + 1) % max(1, updates // 25) == 0:
            thetas.append(flatten(model).clone())
    return torch.stack(thetas)


def around(path: Tensor) -> tuple[Plane, tuple[float, ...]]:
    """The plane of the path's two largest components through its end, and bounds around it."""
    rows = (path - path.mean(dim=0)).double()
    directions = torch.linalg.svd(rows, full_matrices=False).Vh[:2].to(path)
    plane = Plane(path[-1], directions)
    positions, _ = plane.project(path)
    low, high = positions.min(axis=0), positions.max(axis=0)
    margin = 0.2 * (high - low)
    return plane, tuple(np.stack([low - margin, high + margin], axis=1).ravel().tolist())


def measure(name: str, objective: Objective, plane: Plane, bounds: tuple[float, ...]) -> Truth:
    alpha, beta = np.linspace(*bounds[:2], POINTS), np.linspace(*bounds[2:], POINTS)
    found = [[objective.evaluate(plane.point(a, b)) for b in beta] for a in alpha]
    loss = np.array([[point.loss for point in row] for row in found])
    return Truth(name, loss, np.array([[point.accuracy for point in row] for row in found]))


def battery() -> Iterator[Truth]:
    """Nets × training × seeds × planes."""
    digits = load_data("digits")
    images, labels = training_subset(digits, SAMPLES)
    data = (normalize(images, by=digits.train[0]), labels)
    for net, training, seed in itertools.product(NETS, UPDATES, SEEDS):
        model = NETS[net](seed)
        path = train(model, data, UPDATES[training])
        objective = Objective(model, nn.CrossEntropyLoss(), data)
        reach = 0.1 * float(objective.theta.norm())
        planes = {
            "random": (random_plane(objective, seed=seed), (-1.0, 1.0, -1.0, 1.0)),
            "Hessian": (hessian_plane(objective, seed=seed), (-reach, reach, -reach, reach)),
            "trajectory": around(path),
        }
        for kind, (plane, bounds) in planes.items():
            yield measure(f"{net}, {training}, {kind} plane, seed {seed}", objective, plane, bounds)


def refine(truth: Truth, tolerance: float, seed: int) -> dict[str, Any]:
    """Measure a surface with a tolerance; the stated errors beside the true ones."""
    loss, accuracy = truth.loss.ravel(), truth.accuracy.ravel()
    refinement, seen = Refinement(truth.loss.shape, tolerance=tolerance, seed=seed), {}
    while (wanted := refinement.next(seen)).size:
        seen |= {int(i): float(loss[i]) for i in wanted}
    found = refinement.fill(seen)
    other = refinement.fill(seen, {i: float(accuracy[i]) for i in seen}, relative=False)
    left = found.interpolated
    with np.errstate(divide="ignore"):
        errors = np.abs(np.log(found.values[left]) - np.log(truth.loss[left]))
    accuracy_errors = np.abs(other.values[left] - truth.accuracy[left])
    return {
        "surface": truth.name,
        "tolerance": tolerance,
        "seed": seed,
        "evaluated": len(seen),
        "of": loss.size,
        "stated": found.facts["bound"],
        "true": percentile(errors),
        "true_max": float(errors.max(initial=0.0)),
        "accuracy_stated": other.facts["bound"],
        "accuracy_true": percentile(accuracy_errors),
    }


def percentile(errors: np.ndarray) -> float:
    return float(np.quantile(errors, QUANTILE, method="inverted_cdf")) if errors.size else 0.0


def summarize(rows: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """One line of the table: the first draw of each surface, then all draws."""
    rows = [row for row in rows if row["tolerance"] == tolerance]
    first = [row for row in rows if row["draw"] == 0]
    points = np.array([row["evaluated"] for row in rows])
    return {
        "tolerance": tolerance,
        "surfaces": len(first),
        "interpolated": sum(row["evaluated"] < row["of"] for row in first),
        "covered": sum(row["true"] <= row["stated"] for row in first),
        "draws": len(rows),
        "covered_share": float(np.mean([row["true"] <= row["stated"] for row in rows])),
        "accuracy_covered_share": float(
            np.mean([row["accuracy_true"] <= row["accuracy_stated"] for row in rows])
        ),
        "points": POINTS**2,
        "points_median": float(np.median(points)),
        "points_mean": float(points.mean()),
        "points_90": float(np.quantile(points, 0.9)),
        "times_fewer": float(POINTS**2 / points.mean()),
        "true_median": float(np.median([row["true"] for row in rows])),
        "true_largest": max(row["true"] for row in rows),
        "true_max_largest": max(row["true_max"] for row in rows),
    }


def show(summary: list[dict[str, Any]]) -> None:
    print(
        "tolerance  stated error holds      points of 2601: median  mean  90 %   fewer   "
        "true error: median  largest"
    )
    for line in summary:
        print(
            f"{line['tolerance']:9g}  {line['covered']:3d} of {line['surfaces']:3d}"
            f" ({line['covered_share']:6.1%} of draws) {line['points_median']:16.0f}"
            f" {line['points_mean']:6.0f} {line['points_90']:5.0f} {line['times_fewer']:6.1f}x"
            f" {line['true_median']:19.4f} {line['true_largest']:8.4f}"
        )


def write(path: Path, report: dict[str, Any]) -> None:
    """JSON with one line for each row, so that a change shows as one."""
    lines = [
        f"{json.dumps(key)}: "
        + (
            "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
            if isinstance(value, list)
            else json.dumps(value)
        )
        for key, value in report.items()
    ]
    path.write_text("{\n " + ",\n ".join(lines) + "\n}\n")


def known(path: Path | None) -> list[Truth]:
    """The surfaces, from a file where they were kept."""
    if path is not None and path.exists():
        with np.load(path) as file:
            return [Truth(n, *file[n]) for n in file.files]
    truths = list(battery())
    if path is not None:
        np.savez_compressed(path, **{t.name: np.stack([t.loss, t.accuracy]) for t in truths})
    return truths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5, help="draws of held-out points")
    parser.add_argument("--surfaces", type=Path, help="file to keep the surfaces in (.npz)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of results")
    options = parser.parse_args()
    truths = known(options.surfaces)
    runs = itertools.product(TOLERANCES, range(options.draws), enumerate(truths))
    rows = [
        {**refine(truth, tolerance, 1000 * draw + i), "draw": draw}
        for tolerance, draw, (i, truth) in runs
    ]
    summary = [summarize(rows, tolerance) for tolerance in TOLERANCES]
    show(summary)
    options.out.mkdir(parents=True, exist_ok=True)
    first = [row for row in rows if row["draw"] == 0]
    facts = {
        "command": "benchmarks/bench_refinement.py",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "draws": options.draws,
    }
    write(options.out / "refinement.json", {**facts, "summary": summary, "first_draw": first})
    draw(first, options.out / "refinement.png")
    return int(any(line["covered"] < 0.95 * line["surfaces"] for line in summary))


if __name__ == "__main__":
    raise SystemExit(main())
