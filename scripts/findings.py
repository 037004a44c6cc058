"""Hold the claim against the study's runs and draw docs/findings.md's pictures: `make findings`.

The report and its tables go to benchmarks/study/claim/. What was measured before is found.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from landscape.figures import paper
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
