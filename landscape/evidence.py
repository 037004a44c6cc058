"""What the statements of a claim are judged by: groups of runs, and what was measured of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landscape.groups import Group, check_group, find_group_members
from landscape.results import Consistency, Directions, Offset, Result, Rise
from landscape.runs import Run

SAM, AACE = "SAM", "SAM+AACE"
"""Methods of the runs that the statements are about, as run.json says them."""

THROUGH = "step "
"""How questions about a run through its training begin; the step follows."""

Key = tuple[str, str, str]
"""Run id, question, name of the perturbation."""


class MissingEvidenceError(LookupError):
    """A statement needs what was not measured, or can't be measured of these runs."""


@dataclass(frozen=True)
class Evidence:
    """Runs by method and seed, and results by run, question and perturbation."""

    groups: Mapping[str, Mapping[int, Run]]
    results: Mapping[Key, Result]
    lacking: Mapping[Key, str] = field(default_factory=dict)
    """Why something was not measured."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of the runs."""
        return tuple(self.groups)

    def runs(self, method: str) -> Mapping[int, Run]:
        """The runs of a method by seed.

        Raises:
            MissingEvidenceError: There are none.
        """
        if method not in self.groups:
            raise MissingEvidenceError(f"there are no runs of {method}")
        return self.groups[method]

    def frozen(self, run: Run, perturbation: str, *, early: bool = False) -> Consistency:
        """Agreement at frozen weights, at the last checkpoint or an early one."""
        return self._found(run, "early" if early else "frozen", perturbation)

    def through(self, run: Run, perturbation: str) -> list[Consistency]:
        """Agreement at frozen weights, at checkpoints through training, in their order.

        Raises:
            MissingEvidenceError: It was followed nowhere.
        """
        found = {
            int(question.removeprefix(THROUGH)): result
            for (of, question, name), result in self.results.items()
            if (of, name) == (run.id, perturbation) and question.startswith(THROUGH)
        }
        if not found:
            raise MissingEvidenceError(f"{run.name} was not followed through its training")
        return [found[step] for step in sorted(found)]  # type: ignore[return-value]

    def directions(self, run: Run) -> Directions:
        """The directions that training recorded."""
        return self._found(run, "directions", "")

    def rise(self, run: Run, perturbation: str) -> Rise:
        """Rises at the last checkpoint; its second radius is SAM's."""
        return self._found(run, "rise", perturbation)

    def offset(self, run: Run, perturbation: str) -> Offset:
        """The loss along the mean displacement at the last checkpoint."""
        return self._found(run, "offset", perturbation)

    def _found(self, run: Run, question: str, perturbation: str) -> Any:
        key = (run.id, question, perturbation)
        if key not in self.results:
            reason = self.lacking.get(key, "it was not measured")
            raise MissingEvidenceError(f"{question} of {run.name}: {reason}")
        return self.results[key]


def group_runs(texts: Sequence[str]) -> dict[str, dict[int, Run]]:
    """Sort runs by method and seed.

    Args:
        texts: Runs, folders of runs, patterns or FOLDER:METHOD, as in `groups.find_group`.

    Raises:
        ValueError: There are no runs, the settings within a method differ by more than the seed, a
            seed is there twice or not at all.
        RunFileError: A run can't be read, or has not finished.
    """
    found = {run.id: run for text in texts for run in find_group_members(text)}
    if not found:
        raise ValueError(
            f"{' '.join(texts)}: expected runs, got none; `landscape runs FOLDER` lists them"
        )
    groups: dict[str, dict[int, Run]] = {}
    for method in sorted({run.method for run in found.values()}):
        members = [run for run in found.values() if run.method == method]
        check_group(f"the runs of {method}", members)
        by_seed = Group(method, tuple(members)).seeds
        if len(by_seed) < len(members):
            raise ValueError(f"every run of {method} must say its seed in its settings")
        groups[method] = by_seed
    return groups
