"""What the runs of `make study` reached: measures of each, means over seeds, paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from study_runs import Job, spans_of
from torch import Tensor, nn

from landscape.calibration import fit_temperature, measure_calibration
from landscape.intervals import t_interval
from landscape.modules import load_theta
from landscape.runs import Run
from training.config import TrainConfig
from training.data import Dataset, held_out_subset, normalize_for, training_subset
from training.problems import make_problem

HELD_OUT = 10_000
_BATCH = 1000

Data = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Measure:
    """A number of each run, and how it is shown."""

    label: str
    part: str
    field: str
    scale: float = 1.0
    digits: int = 4

    def of(self, run: Mapping[str, Any]) -> float:
        """The number of one run."""
        return self.scale * run[self.part][self.field]

    def interval(self, run: Mapping[str, Any]) -> tuple[float, float]:
        """Its interval over test images."""
        low, high = run[self.part][f"{self.field}_interval"]
        return self.scale * low, self.scale * high


COMPARED = {
    "test_error": Measure("test error, %", "test", "error", 100, 2),
    "test_ce": Measure("test CE, nats", "test", "cross_entropy"),
    "test_ce_scaled": Measure("scaled test CE, nats", "test_scaled", "cross_entropy"),
    "ece": Measure("ECE, %", "test", "ece", 100, 2),
    "ece_scaled": Measure("scaled ECE, %", "test_scaled", "ece", 100, 2),
}
"""What methods are compared by."""

MEASURES = {
    **COMPARED,
    "temperature": Measure("T", "test_scaled", "temperature", digits=3),
    "ece_null": Measure("ECE of a calibrated net, %", "test_scaled", "ece_null", 100, 2),
    "train_accuracy": Measure("train accuracy, %", "train", "accuracy", 100, 2),
    "train_ce": Measure("train CE, nats", "train", "loss"),
}
"""What the table has of each method."""


def study_data(dataset: Dataset, config: TrainConfig) -> Data:
    """Held-out and test images, normalized as in training, and their labels."""
    images, _ = training_subset(dataset, config.train_samples)
    parts = {
        "held_out": held_out_subset(dataset, HELD_OUT, train_samples=config.train_samples),
        "test": dataset.test,
    }
    return {
        name: (normalize_for(dataset, inputs, by=images), targets)
        for name, (inputs, targets) in parts.items()
    }


def measure_run(job: Job, dataset: Dataset, data: Data) -> dict[str, Any]:
    """Measure the last checkpoint in eval mode: T on held-out images, all else on the test set.

    Training accuracy and CE are those that the run itself measured at its end.
    """
    run, config = Run(job.folder), job.config
    end = run.checkpoint("last")
    problem = make_problem(
        dataset, model=config.model, seed=config.seed, train_samples=config.train_samples
    )
    model = load_theta(problem.model, end.theta, end.buffers).eval()
    logits = {name: _logits(model, inputs) for name, (inputs, _) in data.items()}
    targets = {name: labels.numpy() for name, (_, labels) in data.items()}
    fitted = fit_temperature(logits["held_out"], targets["held_out"])
    plain = measure_calibration(logits["test"], targets["test"])
    scaled = measure_calibration(logits["test"], targets["test"], temperature=fitted.value)
    spans = spans_of(run)
    return {
        "method": job.method,
        "seed": job.seed,
        "spans": spans,
        "seconds": sum(end - begin for begin, end in spans),
        "bytes": sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file()),
        "train": {name: run.summary[f"train_{name}"] for name in ("accuracy", "loss")},
        "held_out": asdict(fitted),
        "test": asdict(plain),
        "test_scaled": asdict(scaled),
    }


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> np.ndarray:
    return torch.cat([model(batch) for batch in inputs.split(_BATCH)]).numpy()


def means(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean over seeds and its t-interval, by method and measure."""
    methods = dict.fromkeys(run["method"] for run in runs)
    return {
        method: {
            name: _over_seeds([measure.of(run) for run in runs if run["method"] == method])
            for name, measure in MEASURES.items()
        }
        for method in methods
    }


def differences(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Differences to SGD and to SAM, paired by seed: initial weights and order are the same."""
    by_key = {(run["method"], run["seed"]): run for run in runs}
    methods = list(dict.fromkeys(run["method"] for run in runs))
    seeds = sorted({run["seed"] for run in runs})
    pairs = [(method, base) for base in ("sgd", "sam") for method in methods if base in methods]
    return [
        {
            "method": method,
            "base": base,
            "measure": name,
            **_over_seeds(
                [measure.of(by_key[method, s]) - measure.of(by_key[base, s]) for s in seeds]
            ),
        }
        for method, base in pairs
        if method not in ("sgd", base)
        for name, measure in COMPARED.items()
    ]


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    low, high = t_interval(np.array(values))
    return {"mean": float(np.mean(values)), "low": low, "high": high, "values": list(values)}


def elapsed(runs: Sequence[Mapping[str, Any]]) -> float:
    """Seconds in which at least one run was being trained."""
    spans = sorted(chain.from_iterable(run["spans"] for run in runs))
    total, until = 0.0, -math.inf
    for begin, end in spans:
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total
