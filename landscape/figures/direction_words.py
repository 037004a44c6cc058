"""What results of perturbations say of themselves: subjects of captions, rows of facts."""

from collections.abc import Sequence

import numpy as np

from landscape.figures.estimate_words import between, interval
from landscape.figures.measure_lines import radius_text, rise_rows, steep_rows
from landscape.figures.numbers import count, number, percent
from landscape.figures.plane_words import Rows, fact
from landscape.intervals import t_interval
from landscape.results import Consistency, Offset, Rise


def _batches(facts: dict, size: int) -> str:
    of = f" of {count(facts['batch_size'])}" if "batch_size" in facts else ""
    return f"{count(size)} batches{of}"


def _mean(values: np.ndarray) -> str:
    """Mean over batches with its interval."""
    if not values.size:
        return ""
    return number(float(values.mean())) + between(t_interval(values))


def rise_subject(result: Rise, whom: str, parts: Sequence[str] = ("rise",)) -> str:
    """What a figure of a loss rise shows: "rise", "transfer" or "curvature".

    Args:
        result: What was measured.
        whom: Model, method and step, as " of ConvNet at step 480".
        parts: The part shown.
    """
    name, size = result.perturbation or "the", len(result.norms)
    batches = _batches(result.facts, size)
    if "transfer" in parts:
        return (
            f"Loss rise, in nats, on each batch (column) by the {name} perturbation of each other "
            f"(row){whom}, {count(len(result.transfer))} batches; colors are symmetric about 0."
        )
    if "curvature" in parts:
        own, gradient = steep_rows(result, "share")
        return (
            f"Where {name} perturbations of {batches} lie among the {len(result.eigenvalues)} "
            f"largest eigenvectors of the Hessian{whom}: mean share of their squared length "
            f"{_mean(own) or 'not measured'}; dotted or hollow: the task-loss gradient of the same "
            f"batch, {_mean(gradient) or 'not measured'}. Bars: 95 % t-intervals over batches."
        )
    told = [f"{place} {_mean(rise_rows(result, place, np.nan)[0])}" for place in result.places]
    return (
        f"Loss rise L(w + ε) − L(w), in nats, by {name} perturbations of {batches}{whom}: means "
        f"{'; '.join(told)}. Dotted or hollow: to first order, ⟨∇L, ε⟩. Bars: 95 % t-intervals "
        "over batches."
    )


def offset_subject(result: Offset, whom: str) -> str:
    """What a line scan along the mean perturbation shows."""
    told = [
        f"{curve} {number(float(result.minimum[i]))}"
        + between((float(result.minimum_low[i]), float(result.minimum_high[i])))
        for i, curve in enumerate(result.curves)
    ]
    text = (
        f"Loss along the mean {result.perturbation or 'perturbation'} displacement ε{whom}, w at 0 "
        f"and w + ε at 1; minima (rings) at {'; '.join(told)}, intervals by bootstrap over samples."
    )
    if result.temperature.size:
        text += (
            " Temperature scaled: the temperature is fitted at each place on one half of the test "
            "data and used on the other."
        )
    return text


def part_subject(result: Consistency, whom: str, parts: Sequence[str]) -> str:
    """What a figure of "shares", "components", "norms" or "tensors" of directions shows."""
    name = result.perturbation or "the"
    batches = _batches(result.facts, len(result.step))
    about = f"{name} perturbations of {batches} at frozen weights{whom}"
    if "shares" in parts:
        share = _mean(result.effective_share) or "not measured"
        return (
            f"Effective share of a batch's samples, (Σ s)² / (n Σ s²), by the weights of the loss "
            f"that is followed, 1 − p or p of the true class: {about}, mean {share}; beside it the "
            f"probability of the true class of {count(result.true_probability.size)} samples. "
            "Bars: 95 % t-intervals over batches."
        )
    if "norms" in parts:
        return (
            f"Length of ε, {about}: mean ‖ε‖ {_mean(result.norms)}, and as a part of the length of "
            "the weights w. Bars: 95 % t-intervals over batches."
        )
    if "tensors" in parts:
        return (
            f"Mean pairwise cosine layer by layer, {about}, and each layer's share of ‖ε‖². A dot: "
            "within the central 95 % of random sign flips."
        )
    parts_told = ", ".join(
        f"{part} {_mean(values)}"
        for part, values in zip(result.component_names, result.component_cosines, strict=False)
    )
    radial = _mean(result.radial)
    return (
        f"What ε is made of, {about}: cosines to its parts ({parts_told or 'none'}), to the weights"
        f" w ({radial or 'not measured'}) and to the task-loss gradient. Bars: 95 % t-intervals "
        "over batches; parts alone: mean over pairs of batches."
    )


def consistency_more(result: Consistency) -> Rows:
    """Further rows of the frozen protocol, as far as they were measured."""

    def median(values: np.ndarray) -> str:
        return number(float(np.median(values))) if values.size else ""

    return [
        ("Effective directions", _known(result.participation)),
        ("To the others' mean", median(result.leave_one_out)),
        ("Cosine to w", _mean(result.radial)),
        ("Cosine to ∇L of all data", _mean(result.cosine_full)),
        ("Effective share", _mean(result.effective_share)),
        ("Noise scale", f"{_known(result.noise_scale)} samples" if result.noise_scale > 0 else ""),
        ("Cosine it predicts", _known(result.predicted_cosine)),
        *[
            (f"Part: {name}", f"c̄ {number(float(own))}")
            for name, own in zip(result.component_names, result.component_mean_cosine, strict=False)
        ],
    ]


def _known(value: float) -> str:
    return number(value) if np.isfinite(value) else ""


def rise_rows_told(result: Rise) -> Rows:
    """Rows of a loss rise."""
    facts = result.facts
    own, gradient = steep_rows(result, "share")
    quotient = steep_rows(result, "rayleigh")[0]
    rises = [
        (f"{place.capitalize()}, {radius_text(radius)}", f"{_mean(values)} nats")
        for place in result.places
        for radius in result.radii.tolist()
        if (values := rise_rows(result, place, radius)[0]).size
    ]
    return [
        ("Perturbation", result.perturbation),
        ("Batches", count(len(result.norms))),
        ("Batch size", count(facts["batch_size"]) if "batch_size" in facts else ""),
        ("Sampling", fact(facts, "sampling")),
        ("Median ‖ε‖", number(float(np.median(result.norms))) if result.norms.size else ""),
        *rises,
        ("Eigenvalues", ", ".join(number(v) for v in result.eigenvalues.tolist())),
        ("Share of ε² in them", _mean(own)),
        ("of the gradient", _mean(gradient)),
        ("uᵀHu / λ₁", _mean(quotient)),
    ]


def offset_rows(result: Offset) -> Rows:
    """Rows of a line scan along the mean perturbation."""

    def ends(low: np.ndarray, high: np.ndarray, at: int) -> str:
        text = interval(float(low[at]), float(high[at]))
        return f" (95 % {text})" if text else ""

    minima = [
        (
            f"Minimum, {curve}",
            number(float(result.minimum[i])) + ends(result.minimum_low, result.minimum_high, i),
        )
        for i, curve in enumerate(result.curves)
    ]
    gains = [
        (
            f"L(w) − L(w + ε), {curve}",
            f"{number(float(result.gain[i]))}{ends(result.gain_low, result.gain_high, i)} nats",
        )
        for i, curve in enumerate(result.curves)
    ]
    relative = result.norm / result.weight_norm if result.weight_norm > 0 else np.nan
    return [
        ("Perturbation", result.perturbation),
        ("Batches", fact(result.facts, "batches")),
        ("Points", count(len(result.alpha))),
        ("‖mean ε‖", _known(result.norm)),
        ("of ‖w‖", percent(relative) if np.isfinite(relative) else ""),
        *minima,
        *gains,
        ("Temperature at w", _at_origin(result, result.temperature)),
        ("Calibration error at w", _at_origin(result, result.ece)),
    ]


def _at_origin(result: Offset, values: np.ndarray) -> str:
    return number(float(np.interp(0.0, result.alpha, values))) if values.size else ""
