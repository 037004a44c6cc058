"""Whether perturbations of different batches point the same way.

Two protocols. Frozen: the weights stand still, the batches change, so directions differ by the loss
alone. Online: the vectors that training recorded, which also moved with the weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from landscape.directions import consistency_of, inner_products, sketch_cosines, summarize
from landscape.displacements import Memory
from landscape.frozen import Displacer, draw_batches, flat_array, prepare_model
from landscape.objectives import Objective
from landscape.perturbations import Perturbation
from landscape.results import Consistency
from landscape.runs import Run

Progress = Callable[[int, int], None]

WINDOW = 64  # recorded steps of the online protocol


def measure_consistency(
    objective: Objective,
    perturbation: Perturbation,
    *,
    batches: int = 32,
    batch_size: int = 128,
    seed: int,
    bn: str = "batch",
    step: int = 0,
    memory: Memory | None = None,
    progress: Progress | None = None,
) -> Consistency:
    """Measure the frozen protocol: perturbations of many batches at the objective's weights.

    Batches are drawn with replacement from the objective's data, by a generator of their own, so
    one seed gives every perturbation the same batches. SAM follows the objective's loss, AACE its
    own. For each batch: the displacement ε, its norm, its cosine to the gradient of the objective's
    loss, and the loss rise L(w + ε) - L(w) on the same batch. Gradients are not clipped, data not
    augmented, dropout is inactive. A schedule is at its largest radius. The objective and its model
    are not touched.

    A direction with a memory (VaSSO, F-SAM) is measured at a memory that stands still like the
    weights: each batch gives the ε that the next update of training would have with it.

    Args:
        objective: Weights, loss and data.
        perturbation: As `sam()` or `aace()`.
        batches: Batches to draw, at least 2.
        batch_size: Samples in each.
        seed: Seed of the batches, the null and the bootstrap.
        bn: "batch", as trained: BatchNorm uses the batch's statistics and keeps its buffers; or
            "frozen": it uses the running ones, which makes samples independent of each other.
        step: Training step of the weights, noted in the result.
        memory: The running mean of gradients, one tensor per trainable parameter, as
            `SAM.state_dict()["perturbation"]["memory"]`; for a direction that has one.
        progress: Called with batches done and in total.

    Raises:
        ValueError: A setting is out of range, or does not fit the model; or a direction with a
            memory has none.
        TypeError: AACE on targets that are not classes.
    """
    if bn not in ("batch", "frozen"):
        raise ValueError(f'bn must be "batch" or "frozen", got {bn!r}')
    if batches < 2 or batch_size < 1:
        raise ValueError(
            f"the frozen protocol needs 2 batches of 1 sample or more, got {batches} batches of "
            f"{batch_size}"
        )
    if perturbation.has_memory != (memory is not None):
        raise ValueError(
            f"{perturbation.label} depends on the gradients of earlier updates, which frozen "
            "weights do not tell: pass the memory of its training, or measure the online protocol"
            if perturbation.has_memory
            else f"{perturbation.label} has no memory, got one"
        )
    model = prepare_model(objective.model, bn, batch_size)
    generator = torch.Generator().manual_seed(seed) if perturbation.is_random else None
    displacer = Displacer(model, objective.loss_fn, perturbation, memory, generator)
    vectors, rises, cosines = [], [], []
    drawn = draw_batches(objective, batches, batch_size, seed)
    for done, (inputs, targets) in enumerate(drawn, start=1):
        moved, rise, cosine = _measured(displacer, inputs, targets)
        vectors.append(moved)
        rises.append(rise)
        cosines.append(cosine)
        if progress is not None:
            progress(done, batches)
    names = ("model", "parameters", "loss", "mode", "samples", "dtype", "data_digest")
    return consistency_of(
        np.stack(vectors),
        step=np.full(batches, step),
        protocol="frozen",
        perturbation=perturbation.label,
        seed=seed,
        loss_rise=np.array(rises),
        cosine_gradient=np.array(cosines),
        facts={name: objective.facts[name] for name in names if name in objective.facts}
        | {
            "bn": bn,
            "batches": batches,
            "batch_size": batch_size,
            "sampling": "samples drawn with replacement, batches independent",
            "settings": asdict(perturbation) | {"sign": perturbation.sign},
        },
    )


def online_consistency(
    run: Run, *, start: int | None = None, stop: int | None = None, seed: int
) -> Consistency:
    """Measure the online protocol, on what training recorded at `start <= step < stop`.

    Cosines mix the noise of the batches with the motion of the weights. The vectors are read block
    by block, never all at once. Where a step has no full vector its sketch is taken; the result
    then holds the standard deviation of each cosine, 0 for those between full vectors and for those
    to the vector before, 10 or 100 steps before that training itself measured.

    Args:
        run: A run with recorded displacements, full or as sketches.
        start: First step; by default the window is the last 64 recorded steps before `stop`.
        stop: End of the window, not in it; by default the end of the run.
        seed: Seed of null and bootstrap.

    Raises:
        ValueError: The run or the window has fewer than two recorded displacements.
    """
    recorded = run.recorded_steps
    if recorded.size == 0:
        raise ValueError(
            f"the online protocol needs recorded displacements, got none in {run.path} "
            f"({run.method}): use the frozen protocol, measure_consistency or "
            "`landscape consistency RUN --protocol frozen`, which draws its own batches"
        )
    window = recorded[recorded < (np.inf if stop is None else stop)]
    window = window[-WINDOW:] if start is None else window[window >= start]
    if window.size < 2:
        raise ValueError(
            f"a window needs two recorded steps, got {window.size} in {start} .. {stop}; recorded "
            f"are {recorded[0]} .. {recorded[-1]}"
        )
    rows = run.steps
    full = np.isin(window, run.displacement_steps)
    if full.all():
        products, error, source = _full_products(run, window), None, "full vectors"
    else:
        products, error = _sketched_products(run, window, full, rows)
        source = _said_of_sketches(error, run.recording["sketch"])
    return summarize(
        products,
        step=window,
        protocol="online",
        perturbation=_recorded_label(run),
        seed=seed,
        loss_rise=_at_steps(rows, "loss_rise", window),
        cosine_gradient=_at_steps(rows, "cosine_gradient", window),
        cosine_error=error,
        sketch=None if error is None else run.recording["sketch"],
        facts={
            "run": run.id,
            "run_name": run.name,
            "method": run.method,
            "parameters": run.layout.size,
            "window": [int(window[0]), int(window[-1]) + 1],
            "sampling": "batches of training, in order",
            "vectors": source,
        },
    )


def _said_of_sketches(error: np.ndarray, numbers: int) -> str:
    """Say how many cosines come from sketches, and how far they may be off."""
    above = error[np.triu_indices(len(error), 1)]
    return (
        f"{int((above != 0).sum())} of {above.size} cosines from sketches of {numbers} numbers, "
        f"standard deviation (1 − c²)/√{numbers}"
    )


def _full_products(run: Run, window: np.ndarray) -> np.ndarray:
    """Return the inner products [n, n] of full vectors, two blocks in memory at a time."""

    def blocks(start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for steps, vectors in run.iterate_displacements(start, int(window[-1]) + 1):
            inside = np.isin(steps, window)
            if inside.any():
                yield np.searchsorted(window, steps[inside]), vectors[inside]

    total = np.full((window.size, window.size), np.nan)
    if window.size == 0:
        return total
    for rows, left in blocks(int(window[0])):
        for columns, right in blocks(int(window[rows[0]])):
            products = inner_products(left, right)
            total[np.ix_(rows, columns)] = products
            total[np.ix_(columns, rows)] = products.T
    return total


def _sketched_products(
    run: Run, window: np.ndarray, full: np.ndarray, rows: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return inner products and errors of cosines [n, n]: exact where known, else from sketches."""
    steps, sketches = run.sketches(int(window[0]), int(window[-1]) + 1)
    numbers = np.full((window.size, sketches.shape[1]), np.nan)
    numbers[np.searchsorted(window, steps)] = sketches
    cosines, error = sketch_cosines(numbers, run.layout.size)
    exact = _full_products(run, window[full])
    lengths = np.sqrt(np.diag(exact))
    cosines[np.ix_(full, full)] = exact / np.outer(lengths, lengths)
    error[np.ix_(full, full)] = 0.0
    for lag, column in ((1, "cosine_previous"), (10, "cosine_lag_10"), (100, "cosine_lag_100")):
        measured = _at_steps(rows, column, window)
        for later, step in enumerate(window):
            earlier = int(np.searchsorted(window, step - lag))
            if window[earlier] == step - lag and np.isfinite(measured[later]):
                for pair in ((later, earlier), (earlier, later)):
                    cosines[pair], error[pair] = measured[later], 0.0
    norms = _at_steps(rows, "displacement_norm", window)
    products = cosines * np.outer(norms, norms)
    np.fill_diagonal(products, norms**2)
    return products, error


def _at_steps(rows: dict[str, np.ndarray], column: str, window: np.ndarray) -> np.ndarray:
    """Return a column of the run at these steps, NaN where a step has no row."""
    known = dict(zip(rows["step"].astype(int).tolist(), rows[column].tolist(), strict=True))
    return np.array([known.get(int(step), np.nan) for step in window])


def _recorded_label(run: Run) -> str:
    """Return the label of the perturbation that the recorder noted, else the run's method."""
    return str(run.provenance.get("perturbation") or run.method)


def _measured(
    displacer: Displacer, inputs: Tensor, targets: Tensor
) -> tuple[np.ndarray, float, float]:
    """Return a batch's displacement [param], its loss rise, its cosine to the gradient."""
    found = displacer(inputs, targets)
    rise = displacer.loss_at(found.moves, inputs, targets) - float(found.loss)
    moved, slope = flat_array(found.moves), flat_array(found.gradient)
    lengths = np.linalg.norm(moved.astype(float)) * np.linalg.norm(slope.astype(float))
    cosine = moved.astype(float) @ slope.astype(float) / lengths if lengths else np.nan
    return moved, rise, float(cosine)
