"""Results of perturbations as tables of columns."""

from collections.abc import Mapping

import numpy as np

from landscape.figures.layer_agreement import agreement_of
from landscape.results import Consistency, Offset, Rise

Columns = Mapping[str, np.ndarray]


def vector_columns(result: Consistency) -> dict[str, np.ndarray]:
    """What the frozen protocol measures of each vector, as far as it was measured."""
    names = ("leave_one_out", "radial", "cosine_full", "effective_share")
    found = {name: getattr(result, name) for name in names}
    columns = {name: values for name, values in found.items() if values.size}
    for name, norm, cosine in zip(
        result.component_names, result.component_norms, result.component_cosines, strict=True
    ):
        columns |= {f"norm_{name}": norm, f"cosine_{name}": cosine}
    return columns


def tensors(result: Consistency) -> Columns:
    """Agreement tensor by tensor; no rows where it was not measured."""
    if not result.layer_products.size:
        return {"tensor": np.empty(0), "mean_cosine": np.empty(0), "share": np.empty(0)}
    found = agreement_of([result], "tensor")
    return {
        "tensor": np.array(found.names),
        "mean_cosine": found.cosine[0],
        "null": found.null[0],
        "share": found.share[0],
        "first_order": result.layer_gradient.mean(axis=1),
        "radial": result.layer_radial.mean(axis=1),
        "weight_norm": result.layer_weight,
    }


def probabilities(result: Consistency) -> Columns:
    """Probability of the true class of every sample drawn, batch after batch."""
    found, batches = result.true_probability, max(len(result.step), 1)
    return {"batch": np.arange(len(found)) * batches // max(len(found), 1), "probability": found}


def rises(result: Rise) -> Columns:
    """One row for each place, radius and batch."""
    place, radius, batch = np.meshgrid(
        np.arange(len(result.places)),
        np.arange(len(result.radii)),
        np.arange(len(result.norms)),
        indexing="ij",
    )
    length = result.radii[radius.ravel()]
    norm = result.norms[batch.ravel()]
    return {
        "place": np.array(result.places)[place.ravel()],
        "radius": np.where(np.isnan(length), norm, length),
        "as_trained": np.isnan(length),
        "batch": batch.ravel(),
        "rise": result.rise.ravel(),
        "first_order": result.first_order.ravel(),
    }


def transfers(result: Rise) -> Columns:
    """Rise on each batch by the displacement of each other."""
    size = range(len(result.transfer))
    of, on = np.meshgrid(np.array(size), np.array(size), indexing="ij")
    return {"of_batch": of.ravel(), "on_batch": on.ravel(), "rise": result.transfer.ravel()}


def alignments(result: Rise) -> Columns:
    """How far each batch's displacement and gradient lie along the largest curvature."""
    columns = {"batch": np.arange(len(result.norms)), "norm": result.norms}
    if not result.eigenvalues.size:
        return columns
    for i in range(len(result.eigenvalues)):
        columns[f"cosine_{i + 1}"] = result.alignment[:, i]
        columns[f"gradient_cosine_{i + 1}"] = result.gradient_alignment[:, i]
    return columns | {"rayleigh": result.rayleigh, "gradient_rayleigh": result.gradient_rayleigh}


def scans(result: Offset) -> Columns:
    """Losses at every place of the line."""
    columns = {"alpha": result.alpha}
    for i, curve in enumerate(result.curves):
        name = curve.replace(", ", "_").replace(" ", "_")
        columns |= {name: result.loss[i], f"{name}_accuracy": result.accuracy[i]}
    more = {"temperature": result.temperature, "ece": result.ece}
    return columns | {name: values for name, values in more.items() if values.size}


def minima(result: Offset) -> Columns:
    """Where each loss is smallest, and what w + ε gains over w."""
    names = ("minimum", "minimum_low", "minimum_high", "gain", "gain_low", "gain_high")
    return {"curve": np.array(result.curves)} | {name: getattr(result, name) for name in names}
