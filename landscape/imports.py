"""Checkpoints of old runs as one run folder, which everything reads like a recorded one."""

import contextlib
import copy
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.modules import buffers_of, flatten, layout_of
from landscape.problems import Problem
from landscape.provenance import describe_environment
from landscape.runs import Run
from landscape.states import load_state
from landscape.storage import short_hash
from landscape.weight_files import files_of_weights
from landscape.writers import RunWriter


def import_checkpoints(
    paths: Sequence[str | Path],
    out: str | Path,
    problem: Problem,
    *,
    steps: Sequence[int] | None = None,
    method: str = "imported",
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Make one finished run of files of weights; it has checkpoints, and no rows of steps.

    The folder appears when it is whole, or not at all. `run.provenance["imported_from"]` tells of
    each file its path, SHA-256, step, and what was done to its tensors; of shards the SHA-256 is
    that of their index and of them, one after the other.

    Args:
        paths: Files that `landscape.states.load_state` reads, one for each checkpoint.
        out: The run's folder; it must not exist.
        problem: The model that the weights are of, with its loss and data; it is left as it is.
        steps: Updates made before each file was saved; by default the numbers in the names.
        method: Label of what it was trained with, as "SGD".
        name: What names the problem, as "module:function"; stored for whoever reads the run.
        progress: Called with (files done, files in all) after each.

    Returns:
        The run.

    Raises:
        FileExistsError: If the folder exists.
        RunFileError: If a file is missing, damaged, or holds no state dict.
        ValueError: If weights don't fit the model, their frozen parameters are not the model's,
            or the steps are not told, negative or equal.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(
            f"the output folder must not exist, but {out} does; choose another --out"
        )
    sources = [
        _Source.check(step, path, problem.model) for step, path in number_files(paths, steps)
    ]
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    missing = [folder for folder in part.parents if not folder.exists()]
    try:
        _write(part, sources, problem.model, method, name, progress)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return Run(out)


def report_import(run: Run, problem: str) -> str:
    """Say what became of each file, and what to do next."""
    lines = [f"{run.path}: a run of {len(run.checkpoints)} checkpoints ({run.method})"]
    for source in run.provenance["imported_from"]:
        notes = "".join(f"\n      - {note}" for note in source["notes"])
        lines.append(f"  step {source['step']}: {source['file']}{notes}")
    path, problem = shlex.quote(str(run.path)), shlex.quote(problem)
    plane = " --plane trajectory" if len(run.checkpoints) > 2 else ""
    return "\n".join([*lines, f"next: landscape surface {path} --problem {problem}{plane}"])


@dataclass(frozen=True)
class _Source:
    """A file that fits the model."""

    step: int
    path: Path
    sha256: str
    notes: list[str]

    @classmethod
    def check(cls, step: int, path: Path, model: nn.Module) -> "_Source":
        """Read a file once to see whether it fits."""
        _, notes = _loaded(model, path)
        digest = hashlib.sha256()
        for part in files_of_weights(path):
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        return cls(step, path, digest.hexdigest(), notes)

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "step": self.step,
            "notes": self.notes,
        }


def _write(
    part: Path,
    sources: Sequence[_Source],
    model: nn.Module,
    method: str,
    name: str | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    digests = [source.sha256 for source in sources]
    steps = [source.step for source in sources]
    writer = RunWriter.create(
        part,
        config={"imported": {"sha256": digests, "steps": steps}},
        problem={"name": name, "options": {}},
        layout=layout_of(model),
        method=method,
        group=short_hash(digests),  # nothing says which other runs are its repeats
        total_steps=steps[-1],
        provenance=describe_environment()
        | {"imported_from": [source.to_json() for source in sources]},
    )
    try:
        for done, source in enumerate(sources, 1):
            own, _ = _loaded(model, source.path)
            buffers = {key: value.numpy() for key, value in buffers_of(own).items()}
            writer.save_checkpoint(source.step, flatten(own).float().cpu().numpy(), buffers)
            if progress is not None:
                progress(done, len(sources))
        writer.finish()
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            writer.fail(str(error))  # lets go of its files, which are removed
        raise


def _loaded(model: nn.Module, path: Path) -> tuple[nn.Module, list[str]]:
    """A copy of the model with a file's weights, and what was done to them.

    Raises:
        ValueError: If the file's frozen parameters are others: a run stores trainable ones only.
    """
    own = copy.deepcopy(model)
    notes = load_state(own, path)
    kept = dict(model.named_parameters())
    changed = [
        name
        for name, parameter in own.named_parameters()
        if not parameter.requires_grad and not torch.equal(parameter, kept[name])
    ]
    if changed:
        raise ValueError(
            f"{path}: frozen parameters must be those of the problem's model, got others in "
            f"{', '.join(changed[:4])}; load them in the function that makes the problem, or set "
            "requires_grad"
        )
    return own, notes


# Steps


def number_files(
    paths: Sequence[str | Path], steps: Sequence[int] | None
) -> list[tuple[int, Path]]:
    """Each file with its step, in rising order of the steps.

    Steps that are given go with the files as they are named. Where the numbers in the names tell
    another order and the steps rise, that order counts: a shell lists model-100 before model-20.

    Raises:
        ValueError: If steps are missing, negative or equal, or can't be read from the names.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("expected files of weights to import, got none; as epoch-*.pt")
    for path in files:
        files_of_weights(path)
    numbers = _numbers_in_names(files)
    if steps is None:
        if numbers is None:
            raise ValueError(
                "names of files must tell their steps, as model-100.pt, with one number that "
                f"differs, got {_listed(files)}; give --steps 0,100,200"
            )
        steps = numbers
    if len(steps) != len(files) or len(set(steps)) < len(steps) or min(steps) < 0:
        raise ValueError(
            f"steps must be different whole numbers from 0, one for each of the {len(files)} "
            f"files, got {','.join(map(str, steps))}"
        )
    if numbers is not None and list(steps) == sorted(steps):
        files = [path for _, path in sorted(zip(numbers, files, strict=True))]
    return sorted(zip(steps, files, strict=True))


def _numbers_in_names(files: Sequence[Path]) -> list[int] | None:
    """The number that tells files apart, in their names or else in their folders'; or None.

    Where several do, as in epoch=3-step=1200.ckpt, the one after "step" counts; so it does for a
    single file, whose other numbers may be anything.
    """
    for names in ([path.name for path in files], [path.absolute().parent.name for path in files]):
        parts = [re.split(r"(\d+)", re.sub(r"\.[A-Za-z]\w*$", "", name)) for name in names]
        words = parts[0][::2]
        if any(part[::2] != words for part in parts):
            continue  # other words around them: the numbers can't be compared
        columns = list(zip(*(map(int, part[1::2]) for part in parts), strict=True))
        telling = [i for i, column in enumerate(columns) if len(set(column)) == len(files)]
        named = [i for i in telling if re.search(r"step\W*_*$", words[i], re.IGNORECASE)]
        chosen = named or telling * (len(files) > 1)
        if len(chosen) == 1:
            return list(columns[chosen[0]])
    return None


def _listed(files: Sequence[Path]) -> str:
    return f"{', '.join(path.name for path in files[:4])}{' and others' * (len(files) > 4)}"
