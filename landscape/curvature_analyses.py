"""Spectra, sharpness, stability and curvature through training: run + options -> saved results."""

import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from landscape.answers import Interrupted, Progress, Stored, answer_in_steps
from landscape.curvature import measure_curvature
from landscape.densities import estimate_density
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.objectives import Objective
from landscape.operators import Operator, add_weight_decay, hessian, surface_loss
from landscape.options import (
    CurvatureOptions,
    SharpnessOptions,
    SpectrumOptions,
    StabilityOptions,
    asked,
)
from landscape.parts import restrict
from landscape.perturbations import aace
from landscape.preconditioning import adam_moment, preconditioned
from landscape.ranks import Ranks
from landscape.results import Result, Spectrum
from landscape.runs import Run
from landscape.savepoints import Savepoint
from landscape.sharpness import measure_sharpness
from landscape.spectra import find_eigenpairs
from landscape.stability import measure_stability
from landscape.subjects import Subject, digest_of_file
from landscape.traces import estimate_trace
from landscape.updates import update_of_run

Answers = list[Stored | Interrupted]

_KEPT = 4_000_000  # numbers of eigenvectors that are stored with a spectrum: 16 MB
_OF_DATA = ("checkpoint", "samples", "bn")
_SHARED = ("checkpoint", "samples", "operator", "loss", "parameters", "weight_decay", "adam")
_ASKED = {
    "spectrum": ("k", "which", "tolerance", "copies"),
    "density": ("probes", "steps", "deflate"),
    "trace": ("trace_probes", "trace_method"),
}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a measurement may use; no part of its question."""

    method: str = "auto"
    """How Hessian products are taken, see `landscape.products.choose_product`."""
    memory: float | None = None
    """Bytes that kept graphs may take."""
    max_vectors: int | None = None
    """Vectors that a basis may hold."""
    ranks: Ranks | None = None
    """The processes that share the data."""

    @property
    def first(self) -> bool:
        """Whether this is the process that stores."""
        return self.ranks is None or self.ranks.first

    def hessian(self, objective: Objective, parameters: str = "") -> Operator:
        """The Hessian by these means."""
        ways = {"method": self.method, "memory": self.memory, "ranks": self.ranks}
        return hessian(objective, parameters=parameters, **ways)


def spectrum(
    subject: Subject,
    options: SpectrumOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    resources: Resources = Resources(),
) -> Answers:
    """Eigenpairs of an operator and, unless their probes are 0, its density and its trace."""
    spectra = _Spectra(subject, options, resources, progress)
    answers: Answers = []
    for kind, wanted in (
        ("spectrum", True),
        ("density", options.probes),
        ("trace", options.trace_probes),
    ):
        if not wanted:
            continue
        measure = getattr(spectra, kind)
        answers.append(spectra.answer(kind, measure, again))
        if isinstance(answers[-1], Interrupted):
            break
        if kind == "spectrum" and spectra.found is None:
            spectra.found = answers[-1].result
    return answers


class _Spectra:
    """The measurements of one `landscape spectrum`: they share objective and operator."""

    def __init__(
        self,
        subject: Subject,
        options: SpectrumOptions,
        resources: Resources,
        progress: Progress | None,
    ) -> None:
        self.subject, self.options = subject, options
        self.resources, self.progress = resources, progress
        self.found: Any = None
        """The spectrum, with its eigenvectors unless it was stored without."""
        self.objective = _objective(
            subject, options, surface_loss(aace()) if options.loss == "aace" else None
        )

    def answer(
        self, kind: str, measure: Callable[[Savepoint], Result], again: bool
    ) -> Stored | Interrupted:
        options = asked(self.options, checkpoint=self.subject.checkpoint)
        names = [*_SHARED, *_ASKED[kind], "bn", "seed"]
        if kind == "density" and self.options.deflate:
            names += _ASKED["spectrum"]
        question = {name: options[name] for name in names}
        if self.options.adam:
            question["adam"] = digest_of_file(Path(self.options.adam))
        return answer_in_steps(
            self.subject,
            kind,
            question,
            self.objective,
            measure,
            again=again,
            first=self.resources.first,
        )

    @cached_property
    def operator(self) -> Operator:
        """Made when something is measured with it: choosing a way takes a few products."""
        options, resources, objective = self.options, self.resources, self.objective
        if options.operator == "hessian":
            operator = resources.hessian(objective, options.parameters)
        else:
            make = {"ggn": gauss_newton, "moment": gradient_moment}[options.operator]
            operator = make(objective, parameters=options.parameters, ranks=resources.ranks)
        if options.weight_decay:
            operator = add_weight_decay(operator, options.weight_decay)
        if options.adam:
            moment, eps = adam_moment(_optimizer_state(options.adam), objective.layout)
            part = restrict(moment, operator.layout, objective.layout)
            operator = preconditioned(operator, part, eps=eps)
        return operator

    def spectrum(self, savepoint: Savepoint) -> Result:
        self.found = self._eigenpairs(savepoint)
        vectors = self.found.eigenvectors
        long = vectors is not None and vectors.size > _KEPT
        return replace(self.found, eigenvectors=None) if long else self.found

    def _eigenpairs(self, savepoint: Savepoint | None) -> Spectrum:
        options = self.options
        return find_eigenpairs(
            self.operator,
            k=options.k,
            which=options.which,
            tolerance=options.tolerance,
            seed=options.seed,
            copies=options.copies,
            max_vectors=self.resources.max_vectors,
            savepoint=savepoint,
            progress=self.progress,
        )

    def density(self, savepoint: Savepoint) -> Result:
        deflate = None
        if self.options.deflate:
            if self.found is None or self.found.eigenvectors is None:
                self.found = self._eigenpairs(None)
            deflate = self.found
        return estimate_density(
            self.operator,
            probes=self.options.probes,
            steps=self.options.steps,
            seed=self.options.seed,
            deflate=deflate,
            savepoint=savepoint,
            progress=self.progress,
        )

    def trace(self, savepoint: Savepoint) -> Result:
        return estimate_trace(
            self.operator,
            probes=self.options.trace_probes,
            method=self.options.trace_method,
            seed=self.options.seed,
            savepoint=savepoint,
            progress=self.progress,
        )


def sharpness(
    subject: Subject,
    options: SharpnessOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    resources: Resources = Resources(),
) -> Answers:
    """A table of sharpness measures, with the audit of which move when the function does not."""
    objective = _objective(subject, options)

    def measure(savepoint: Savepoint) -> Result:
        asks = {name: value for name, value in asdict(options).items() if name not in _OF_DATA}
        return measure_sharpness(objective, **asks, savepoint=savepoint, progress=progress)

    question = asked(options, checkpoint=subject.checkpoint)
    return [
        answer_in_steps(
            subject,
            "sharpness",
            question,
            objective,
            measure,
            again=again,
            first=resources.first,
        )
    ]


def stability(
    subject: Subject,
    options: StabilityOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    resources: Resources = Resources(),
) -> Answers:
    """The multipliers of the run's own update at a checkpoint."""
    run = _run_of(subject, "stability")
    update = update_of_run(run, subject.checkpoint)
    objective = _objective(subject, options, batch_size=options.batch_size or subject.batch_size)

    def measure(savepoint: Savepoint) -> Result:
        return measure_stability(
            objective,
            update,
            k=options.k,
            tolerance=options.tolerance,
            seed=options.seed,
            batches=options.batches,
            savepoint=savepoint,
            progress=progress,
        )

    question = {**asked(options, checkpoint=subject.checkpoint), "update": update.label}
    return [
        answer_in_steps(
            subject,
            "stability",
            question,
            objective,
            measure,
            again=again,
            first=resources.first,
        )
    ]


def curvature(
    subject: Subject,
    options: CurvatureOptions,
    *,
    again: bool = False,
    progress: Progress | None = None,
    resources: Resources = Resources(),
) -> Answers:
    """Eigenvalues, traces and alignments at the run's checkpoints."""
    run = _run_of(subject, "curvature")
    words = options.checkpoints.split(",")
    steps = run.checkpoints if options.checkpoints == "all" else [run.resolve(w) for w in words]
    objective = _objective(subject, options)
    perturbations = [
        subject.perturbation(name)
        for name in options.perturbations.split(",")
        if name not in ("", "none")
    ]

    def measure(savepoint: Savepoint) -> Result:
        return measure_curvature(
            run,
            objective,
            checkpoints=sorted(set(steps)),
            k=options.k,
            tolerance=options.tolerance,
            probes=options.probes,
            perturbations=perturbations,
            stability=options.stability,
            seed=options.seed,
            operator=resources.hessian,
            savepoint=savepoint,
            progress=progress,
        )

    question = {
        **asked(options, checkpoints=[int(step) for step in sorted(set(steps))]),
        "perturbations": [perturbation.label for perturbation in perturbations],
    }
    return [
        answer_in_steps(
            subject,
            "curvature",
            question,
            objective,
            measure,
            again=again,
            first=resources.first,
        )
    ]


def _objective(
    subject: Subject, options: Any, loss_fn: Any = None, batch_size: int | None = None
) -> Objective:
    """The loss on the subset; with batch statistics, in batches of the training's size."""
    size = batch_size or (subject.batch_size if options.bn == "batch" else 256)
    return subject.objective(
        samples=options.samples,
        seed=options.seed,
        bn=options.bn,
        batch_size=size,
        loss_fn=loss_fn,
    )


def _optimizer_state(path: str) -> dict[str, Any]:
    """The optimizer's state in a file, which may be a checkpoint that holds it as "optimizer"."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        state = None
    if not isinstance(state, dict):
        raise ValueError(
            f"{path}: expected the state_dict of torch.optim.Adam or AdamW, of tensors and numbers "
            "alone, as torch.save writes it"
        )
    return state.get("optimizer", state)


def _run_of(subject: Subject, what: str) -> Run:
    if subject.run is None:
        raise ValueError(
            f"{what} is about a run and its optimizer, got a model of one's own; record a run "
            "with Recorder, or call measure_stability with an Update"
        )
    return subject.run
