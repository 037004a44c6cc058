"""Groups of runs that differ only by seed, and the pairs that two of them make."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.runs import Run, RunFileError, find_runs


@dataclass(frozen=True)
class Group:
    """Runs of equal settings and different seeds."""

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> dict[int, Run]:
        """Runs by the seed of their settings; runs that name none are left out."""
        told = {run.config.get("seed"): run for run in self.runs}
        return {seed: run for seed, run in sorted(told.items()) if isinstance(seed, int)}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two groups as they are compared; paired, `a[i]` and `b[i]` share `seeds[i]`."""

    a: tuple[Run, ...]
    b: tuple[Run, ...]
    seeds: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    """Names of runs that have no partner."""


def find_group(text: str) -> Group:
    """The runs that a text means.

    Args:
        text: A run, a folder of runs, a pattern as `runs/sgd-*`, several of these by comma, or
            `FOLDER:METHOD` for the runs of a folder that one method trained.

    Raises:
        ValueError: There are none, or they can't be one group: settings differ, or a seed is
            there twice.
        RunFileError: A named run can't be read, or has not finished.
    """
    runs = find_group_members(text)
    if not runs:
        raise ValueError(f"{text}: expected runs, got none; `landscape runs FOLDER` lists them")
    check_group(text, runs)
    methods = {run.method for run in runs}
    return Group(methods.pop() if len(methods) == 1 else text, runs)


def find_group_members(text: str) -> tuple[Run, ...]:
    """The runs that a text means, in any settings; each once, none where there are none."""
    found = {run.id: run for part in text.split(",") for run in _runs_of(part.strip())}
    return tuple(found.values())


def _runs_of(part: str) -> list[Run]:
    if not part:
        return []
    path = Path(part)
    if path.is_dir():
        return find_runs(path)
    folder, colon, method = part.rpartition(":")
    if colon and Path(folder).is_dir():
        return _of_method(Path(folder), method)
    if not any(sign in part for sign in "*?["):
        return [Run(path)]  # which tells what is wrong
    matched = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return [Run(match) for match in matched if (match / "run.json").is_file()]


def _of_method(folder: Path, method: str) -> list[Run]:
    known = {run: {run.method.lower(), run.config.get("method")} for run in find_runs(folder)}
    found = [run for run, names in known.items() if method.lower() in names]
    if not found:
        methods = sorted({run.method for run in known}) or ["none"]
        raise ValueError(
            f"{folder} must hold runs of the method {method!r}, got those of {', '.join(methods)}"
        )
    return found


def check_group(text: str, runs: Sequence[Run]) -> None:
    """Refuse runs that are unfinished, differ by more than the seed, or repeat a seed.

    Raises:
        ValueError: They can't be one group.
        RunFileError: One has not finished.
    """
    for run in runs:
        if run.status != "finished":
            raise RunFileError(
                f"{run.path}: expected a finished run, got one that is {run.status}; name the "
                "others by comma, or go on with it by `landscape train --resume`"
            )
    if len({run.group for run in runs}) > 1:
        raise ValueError(
            f"{text}: the runs of a group must differ by seed alone, got {_told(_varying(runs))}; "
            "name fewer, by a pattern as runs/sgd-* or FOLDER:METHOD"
        )
    counts = Counter(run.config.get("seed") for run in runs)
    if twice := [seed for seed, count in counts.items() if count > 1 and seed is not None]:
        names = [run.name for run in runs if run.config.get("seed") == twice[0]]
        raise ValueError(
            f"{text}: each seed may be there once, got seed {twice[0]} in {', '.join(names)}: "
            "repeats of one seed say nothing of the spread over seeds"
        )


def pair_groups(a: Group, b: Group, *, paired: bool = True) -> Pairs:
    """Pair two groups by seed, or take both whole.

    Raises:
        ValueError: A run stands in both, or no seed is in both.
    """
    if both := {run.id for run in a.runs} & {run.id for run in b.runs}:
        names = [run.name for run in a.runs if run.id in both]
        raise ValueError(f"a run may stand in one group only, got {', '.join(names)} in both")
    if not paired:
        return Pairs(a=a.runs, b=b.runs)
    first, second = a.seeds, b.seeds
    seeds = tuple(seed for seed in first if seed in second)
    if not seeds:
        told = [", ".join(map(str, group)) or "none" for group in (first, second)]
        raise ValueError(
            f"the groups must share seeds to be paired, got seeds {told[0]} in {a.label} and "
            f"{told[1]} in {b.label}; take --unpaired for Welch's interval of all runs"
        )
    kept = {group[seed].id for group in (first, second) for seed in seeds}
    return Pairs(
        a=tuple(first[seed] for seed in seeds),
        b=tuple(second[seed] for seed in seeds),
        seeds=seeds,
        left_out=tuple(run.name for run in (*a.runs, *b.runs) if run.id not in kept),
    )


def settings_apart(a: Sequence[Run], b: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that are not the same in both groups, seed left out: those of A, those of B."""
    names = dict.fromkeys(name for run in (*a, *b) for name in run.config if name != "seed")
    apart = {}
    for name in names:
        values = [list(dict.fromkeys(_setting(run, name) for run in runs)) for runs in (a, b)]
        if set(values[0]) != set(values[1]):
            apart[name] = [" or ".join(found) for found in values]
    return apart


def _varying(runs: Sequence[Run]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for run in runs for name in run.config if name != "seed")
    values = {name: list(dict.fromkeys(_setting(run, name) for run in runs)) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def _told(varying: dict[str, list[str]], most: int = 4) -> str:
    """The first settings that vary, the method before all."""
    names = sorted(varying, key=lambda name: name != "method")
    told = [f"{name} {' or '.join(varying[name])}" for name in names[:most]]
    if len(names) > most:
        told.append(f"{len(names) - most} more settings")
    return ", ".join(told) or "settings that their run.json does not hold"


def _setting(run: Run, name: str) -> str:
    value: Any = run.config.get(name)
    return value if isinstance(value, str) else "–" if value is None else json.dumps(value)
