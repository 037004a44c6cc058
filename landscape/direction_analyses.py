"""Rises and offsets along perturbations: run + options -> measured, saved results."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from landscape.answers import Progress, Stored, answer
from landscape.objectives import Objective
from landscape.offsets import measure_offset
from landscape.operators import Operator, hessian
from landscape.options import OffsetOptions, RiseOptions, asked
from landscape.perturbations import Perturbation
from landscape.results import Result, Spectrum
from landscape.rises import measure_rise
from landscape.spectra import find_eigenpairs
from landscape.subjects import Subject


def rise(
    subject: Subject,
    options: RiseOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """The loss along the ε of many batches, for every perturbation asked for."""
    size = options.batch_size or subject.batch_size
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
    test = _test(subject, objective, options.seed)
    curved = _Curvature(subject, options, size, progress)

    def measured(perturbation: Perturbation) -> Result:
        found = {"operator": curved.operator, "spectrum": curved.spectrum} if options.k else {}
        return measure_rise(
            objective,
            perturbation,
            batches=options.batches,
            batch_size=size,
            seed=options.seed,
            bn=options.bn,
            test=test,
            radii=options.lengths(),
            eigenvectors=options.k,
            transfer=min(options.transfer, options.batches),
            step=subject.checkpoint,
            progress=progress,
            **found,
        )

    return _answers(subject, "rise", options, size, objective, measured, again)


class _Curvature:
    """The Hessian and its eigenpairs, found once for all perturbations, if one is measured."""

    def __init__(
        self, subject: Subject, options: RiseOptions, size: int, progress: Progress | None
    ) -> None:
        self._subject, self._options, self._size = subject, options, size
        self._progress = progress

    @cached_property
    def operator(self) -> Operator:
        options = self._options
        return hessian(
            self._subject.objective(
                samples=options.curvature_samples,
                seed=options.seed,
                bn=options.bn,
                batch_size=self._size,
            )
        )

    @cached_property
    def spectrum(self) -> Spectrum:
        return find_eigenpairs(
            self.operator,
            k=self._options.k,
            which="LA",
            seed=self._options.seed,
            progress=self._progress,
        )


def offset(
    subject: Subject,
    options: OffsetOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Stored]:
    """The loss along the mean ε of many batches, for every perturbation asked for."""
    size = options.batch_size or subject.batch_size
    objective = subject.objective(samples=options.samples, seed=options.seed, bn=options.bn)
    test = _test(subject, objective, options.seed)

    def measured(perturbation: Perturbation) -> Result:
        return measure_offset(
            objective,
            perturbation,
            batches=options.batches,
            batch_size=size,
            seed=options.seed,
            test=test,
            points=options.points,
            extent=(options.low, options.high),
            step=subject.checkpoint,
            progress=progress,
        )

    return _answers(subject, "offset", options, size, objective, measured, again)


def _test(subject: Subject, objective: Objective, seed: int) -> Objective | None:
    """The loss of all test data, where there are."""
    if subject.problem.test is None:
        return None
    return subject.test_objective(objective, samples=0, seed=seed)


def _answers(
    subject: Subject,
    kind: str,
    options: RiseOptions | OffsetOptions,
    size: int,
    objective: Objective,
    measured: Callable[[Perturbation], Result],
    again: bool,
) -> list[Stored]:
    """An answer for each perturbation that is named."""
    answers = []
    for name in options.perturbations.split(","):
        perturbation = subject.perturbation(name)
        question: dict[str, Any] = asked(options, checkpoint=subject.checkpoint, batch_size=size)
        del question["perturbations"]
        question["perturbation"] = perturbation.label

        def measure(perturbation: Perturbation = perturbation) -> Result:
            return measured(perturbation)

        answers.append(answer(subject, kind, question, objective, measure, again))
    return answers
