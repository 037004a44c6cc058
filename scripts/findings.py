"""Hold the claim against the study's runs and draw docs/findings.md's pictures: `make findings`.

The report and its tables go to benchmarks/study/claim/. What was measured before is found.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from landscape.figures import paper
from landscape.figures.tables import csv_of
from landscape.intervals import t_interval
from landscape.results import Result
from landscape.runs import Run, find_runs, read_stored
from training.data_folders import data_folder

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks" / "study" / "claim"
PICTURES = ROOT / "docs" / "pictures"
NAMES = ("SAM", "AACE")


def main() -> int:
    """Measure, judge, draw; the exit code of the claim where it fails."""
    study = data_folder() / "study"
    words = [os.path.relpath(path, ROOT) for path in (study, REPORT)]  # the report tells them
    command = [sys.executable, "-m", "landscape", "claim", words[0], "--out", words[1]]
    if code := subprocess.run(command, check=False, cwd=ROOT).returncode:
        return code
    runs = {run.name: run for run in find_runs(study)}
    claims = [read_stored(path) for path in (study / "joint").glob("claim-*.h5")]
    claim = max(claims, key=lambda stored: stored.created).load()
    (REPORT / "numbers.csv").write_text(csv_of(numbers(runs)), encoding="utf-8")
    for name, figure in figures(runs, claim).items():
        figure.savefig(PICTURES / f"{name}.png")
        print(PICTURES / f"{name}.png")
    return 0


def figures(runs: dict[str, Run], claim: Result) -> dict[str, paper.PaperFigure]:
    """The pictures by name; those of single runs are of seed 0."""
    venue = "tmlr"
    aace = runs["aace-0"]
    recorded = [(runs[n].method, c, newest(runs[n], "directions")[-1]) for n, c in RECORDED]
    drawn = {
        "claim": paper.draw_claim(claim, venue=venue),
        "directions": paper.draw_directions(recorded, venue=venue),
        "frozen": paper.draw_consistency(of_both(aace, "consistency"), venue=venue),
        "components": paper.draw_components(of_both(aace, "consistency"), venue=venue),
        "tensors": paper.draw_tensors(of_both(aace, "consistency"), venue=venue),
    }
    lines = [(name, color, found[-1]) for name, color, found in of_both(aace, "offset")]
    drawn["offset"] = paper.draw_offset(lines, venue=venue)
    return {f"findings-{name}": figure for name, figure in drawn.items()}


def numbers(runs: dict[str, Run]) -> dict[str, np.ndarray]:
    """What findings.md tells beside the statements: means over batches, t-intervals over seeds."""
    rows: dict[str, list[float]] = {}
    for seed in range(3):
        aace, sam = runs[f"aace-{seed}"], runs[f"sam-{seed}"]
        early, last = (at_step(aace, "consistency", "AACE", step) for step in (EPOCH, None))
        other = {step: at_step(aace, "consistency", "SAM", step) for step in (EPOCH, None)}
        line = at_step(aace, "offset", "AACE", None)
        at = [int(np.abs(line.alpha - place).argmin()) for place in (0, 1)]
        found = {
            "AACE's mean cosine after the first epoch": early.mean_cosine,
            "AACE's mean cosine at the end": last.mean_cosine,
            "SAM's on the same weights after the first epoch": other[EPOCH].mean_cosine,
            "SAM's on the same weights at the end": other[None].mean_cosine,
            "cosine of AACE's ε to the gradient of all data": last.cosine_full.mean(),
            "cosine of AACE's ε to w": last.radial.mean(),
            "length of AACE's ε": last.norms.mean(),
            "SAM's whole run, all pairs": newest(sam, "directions")[-1].run_mean_cosine,
            "test accuracy at w + ε less that at w": np.diff(line.accuracy[1][at])[0],
        }
        for i, part in enumerate(last.component_names):
            found[f"cosine of AACE's ε to its {part}"] = last.component_cosines[i].mean()
            found[f"mean cosine of the {part} alone"] = last.component_mean_cosine[i]
        for i, curve in enumerate(line.curves):
            found[f"gain at w + ε, {curve}"] = line.gain[i]
            found[f"minimum along ε, {curve}"] = line.minimum[i]
        for name, value in found.items():
            rows.setdefault(name, []).append(float(value))
    ends = np.array([t_interval(np.array(values)) for values in rows.values()])
    means = np.array([np.mean(values) for values in rows.values()])
    return {"what": np.array([*rows]), "mean": means, "low": ends[:, 0], "high": ends[:, 1]}


def at_step(run: Run, kind: str, name: str, step: int | None):
    """A run's result of one perturbation at a checkpoint, the last by default."""
    wanted = max(run.checkpoints) if step is None else step
    found = [s for s in run.results(kind) if s.facts.get("checkpoint") == wanted]
    return next(r for s in found if (r := s.load()).perturbation.startswith(name))


EPOCH = 78
"""Steps of an epoch, after which there is a checkpoint."""

RECORDED = (("sam-0", 0), ("aace-0", 1), ("vasso-0", 2), ("f-sam-0", 3))
"""Runs whose record is drawn, and the color of each."""


def of_both(run: Run, kind: str) -> list[tuple[str, int, list]]:
    """The results of SAM's ε and of AACE's, by checkpoint."""
    return [
        (name, color, [r for r in newest(run, kind) if r.perturbation.startswith(name)])
        for color, name in enumerate(NAMES)
    ]


def newest(run: Run, kind: str) -> Sequence:
    """A run's results of a kind, by checkpoint."""
    found = sorted(run.results(kind), key=lambda s: s.facts.get("checkpoint") or 0)
    return [stored.load() for stored in found]


if __name__ == "__main__":
    sys.exit(main())
