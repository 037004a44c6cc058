"""The frozen protocol: perturbations of many batches at weights that stand still."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.batches import Batch
from landscape.directions import summarize
from landscape.displacements import Memory
from landscape.frozen import (
    BURN_IN,
    FULL_SAMPLES,
    Displacer,
    cover_data,
    draw_batches,
    draw_burn_in,
    flat_array,
    prepare_model,
    target_generator,
)
from landscape.frozen_measures import FrozenMeasures, held_by
from landscape.layer_directions import largest_layers
from landscape.objectives import Objective
from landscape.perturbations import Perturbation
from landscape.ranks import Ranks
from landscape.results import Consistency
from landscape.vector_stacks import VectorStack

Progress = Callable[[int, int], None]

VECTOR_BYTES = 2e9  # of vectors that are kept in memory


def measure_consistencies(
    objective: Objective,
    perturbations: Sequence[Perturbation],
    *,
    batches: int = 32,
    batch_size: int = 128,
    seed: int,
    bn: str = "batch",
    step: int = 0,
    memories: Sequence[Memory | None] | None = None,
    burn_in: int = BURN_IN,
    radius: float | None = None,
    budget: float = VECTOR_BYTES,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
) -> list[Consistency]:
    """Measure several perturbations by the frozen protocol.

    It is that of `landscape.measure_consistency`; they share the forward pass and the task gradient
    of each batch.

    Args:
        objective: As for `measure_consistency`, like all that is not named here.
        perturbations: Which; a result for each, in their order.
        batches: See there.
        batch_size: See there.
        seed: See there.
        bn: See there.
        step: See there.
        memories: One for each perturbation, None where it has none or it is burnt in.
        burn_in: See there.
        radius: See there.
        budget: See there; shared by all of them.
        ranks: The processes that share the batches, of which all get the results of the first. Each
            goes through all batches of the burn-in, as each step needs the one before.
        progress: See there.

    Raises:
        ValueError: As for `measure_consistency`.
        TypeError: As for `measure_consistency`.
    """
    ranks = ranks or Ranks()
    memories = memories or [None] * len(perturbations)
    _check_settings(batches, batch_size, bn, burn_in, radius)
    if radius is not None:
        perturbations = [matched(p, radius) for p in perturbations]
    model = prepare_model(objective, bn, batch_size)
    displacers = [
        _displacer(objective, model, perturbation, memory, seed, radius)
        for perturbation, memory in zip(perturbations, memories, strict=True)
    ]
    fresh = [d for d in displacers if d.perturbation.has_memory and d.memory is None]
    pieces = len(cover_data(objective, batch_size))
    shares = len(ranks.share(pieces)) + len(ranks.share(batches))
    tell = _Told(progress, (burn_in if fresh else 0) + shares)
    if fresh:
        _make_memories(fresh, draw_burn_in(objective, burn_in, batch_size, seed), tell)
    full = displacers[0].full_gradient(objective, batch_size, ranks=ranks, told=tell)
    kind = np.float64 if objective.theta.dtype == torch.float64 else np.float32
    share = budget / (len(displacers) + 1)
    held, size = held_by(ranks, batches), objective.layout.size
    gradients = VectorStack(held, size, kind, budget=share)
    common = {"batches": batches, "ranks": ranks, "budget": share}
    measures = [
        FrozenMeasures(displacer, objective.layout, gradients, full, **common)
        for displacer in displacers
    ]
    for number, batch in enumerate(draw_batches(objective, batches, batch_size, seed)):
        if number in ranks.share(batches):
            for displacer in displacers:
                displacer.generator = target_generator(seed, number)
            _measure_batch(measures, gradients, number, batch)
            tell()
    ranks.collect(gradients, batches)
    for measure in measures:
        measure.collect(ranks)
    if not ranks.first:
        return ranks.agree(None)
    facts = _frozen_facts(objective, bn, batches, batch_size, pieces)
    if radius is not None:
        facts["radius"] = radius
    return ranks.agree(
        [
            _frozen_result(
                measure,
                facts | ({"burn_in": burn_in} if measure.displacer in fresh else {}),
                step=np.full(batches, step),
                batch_size=batch_size,
                seed=seed,
            )
            for measure in measures
        ]
    )


def matched(perturbation: Perturbation, radius: float) -> Perturbation:
    """Return the perturbation normalized at a radius, without schedule and budget.

    ASAM's ε is longer or shorter than its radius: where its length is to match, it has to be scaled
    as `measure_consistency` does.
    """
    settled: dict[str, Any] = {"schedule": "constant", "schedule_steps": 0, "rho_min": 0.0}
    return replace(perturbation, normalize=True, rho=radius, budget=0.0, **settled)


def _make_memories(
    displacers: Sequence[Displacer], batches: Iterable[Batch], told: Callable[[], None]
) -> None:
    """Burn in all that have a memory; they share each batch's forward pass."""
    for inputs, targets in batches:
        passed = displacers[0].pass_forward(inputs, targets)
        for displacer in displacers:
            displacer.remember(displacer.follow(passed))
        told()


def _measure_batch(
    measures: Sequence[FrozenMeasures], gradients: VectorStack, number: int, batch: Batch
) -> None:
    """Measure one batch; all gradients are taken before any displacement moves the weights."""
    passed = measures[0].displacer.pass_forward(*batch)
    gradients[number] = flat_array(passed.gradient)
    followed = [measure.displacer.follow(passed) for measure in measures]
    for measure, along in zip(measures, followed, strict=True):
        measure.add(number, passed, along, measure.displacer.displace(passed, along))


class _Told:
    """Counts what is done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _check_settings(
    batches: int, batch_size: int, bn: str, burn_in: int, radius: float | None
) -> None:
    if bn not in ("batch", "frozen"):
        raise ValueError(f'bn must be "batch" or "frozen", got {bn!r}')
    if batches < 2 or batch_size < 1:
        raise ValueError(
            f"the frozen protocol needs 2 batches of 1 sample or more, got {batches} batches of "
            f"{batch_size}"
        )
    if burn_in < 1:
        raise ValueError(f"burn_in must be at least 1 batch, got {burn_in}")
    if radius is not None and not 0 < radius < float("inf"):
        raise ValueError(f"radius must be a number above 0, got {radius}")


def _displacer(
    objective: Objective,
    model: nn.Module,
    perturbation: Perturbation,
    memory: Memory | None,
    seed: int,
    radius: float | None,
) -> Displacer:
    if memory is not None and not perturbation.has_memory:
        raise ValueError(f"{perturbation.label} has no memory, got one")
    generator = torch.Generator().manual_seed(seed) if perturbation.is_random else None
    return Displacer(model, objective.loss_fn, perturbation, memory, generator, length=radius)


def _frozen_facts(
    objective: Objective, bn: str, batches: int, batch_size: int, pieces: int
) -> dict[str, Any]:
    """Say what all perturbations have in common."""
    names = ("model", "parameters", "loss", "mode", "samples", "dtype", "data_digest")
    samples = objective.facts["samples"]
    used = f"all {samples}" if samples <= FULL_SAMPLES else f"{FULL_SAMPLES} of {samples}"
    return {name: objective.facts[name] for name in names if name in objective.facts} | {
        "bn": bn,
        "batches": batches,
        "batch_size": batch_size,
        "sampling": "samples drawn with replacement, batches independent",
        "full_gradient": f"mean over {pieces} batches of {used} samples, with the same BatchNorm "
        "statistics as the perturbations",
    }


def _frozen_result(
    measure: FrozenMeasures,
    facts: dict[str, Any],
    *,
    step: np.ndarray,
    batch_size: int,
    seed: int,
) -> Consistency:
    products = measure.products()
    perturbation = measure.displacer.perturbation
    length = measure.displacer.length
    exact = perturbation.metric == "identity" and perturbation.ascent_steps == 1
    result = summarize(
        products.sum(0),
        step=step,
        protocol="frozen",
        perturbation=perturbation.label
        + ("" if length is None or exact else f" at length {length:g}"),
        seed=seed,
        loss_rise=measure.loss_rise,
        cosine_gradient=measure.cosine_gradient,
        fields=measure.fields(products, batch_size, seed),
        facts=facts | {"settings": asdict(perturbation) | {"sign": perturbation.sign}},
    )
    told: dict[str, Any] = {"largest_layers": [list(layer) for layer in largest_layers(result)]}
    if np.isnan(result.noise_scale):
        told["noise_scale"] = "unknown: no mean gradient stands out from the noise"
    return replace(result, facts=result.facts | told)
