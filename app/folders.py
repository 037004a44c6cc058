"""Folders of results that are no run, shown as if they were one."""

from pathlib import Path
from typing import Any

import numpy as np

from landscape.runs import COLUMNS, EVALUATIONS
from landscape.storage import short_hash


class ResultFolder:
    """Result files that lie outside a run, shown as if they were one.

    Args:
        path: Their folder.
        only: The one file to show.
    """

    color = 0
    method = "results"
    status = "finished"
    group = reason = created = ""
    total_steps = None
    layout = None
    checkpoints: tuple[int, ...] = ()

    def __init__(self, path: Path, only: Path | None = None) -> None:
        self.path, self.only = path, only
        shown = only or path
        self.name, self.id = shown.stem if only else shown.name, short_hash(str(shown), 10)
        self.config: dict[str, Any] = {}
        self.problem: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """No training was recorded: empty columns."""
        return {name: np.empty(0) for name in COLUMNS}

    @property
    def evaluations(self) -> dict[str, np.ndarray]:
        """No training was recorded: empty columns."""
        return {name: np.empty(0) for name in EVALUATIONS}

    def result_paths(self) -> list[Path]:
        """The HDF5 files of the folder, by name; or the one file."""
        return [self.only] if self.only else sorted(self.path.glob("*.h5"))


class JointFolder(ResultFolder):
    """Results of several runs together, which lie beside the runs."""

    method = "several runs"
