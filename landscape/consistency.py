"""Whether perturbations of different batches point the same way.

Two protocols. Frozen: the weights stand still, the batches change, so directions differ by the loss
alone. Online: the vectors that training recorded, which also moved with the weights.
"""

from collections.abc import Iterator

import numpy as np

from landscape.directions import inner_products, sketch_cosines, summarize
from landscape.displacements import Memory
from landscape.frozen import BURN_IN
from landscape.frozen_protocol import VECTOR_BYTES, Progress, measure_consistencies
from landscape.objectives import Objective
from landscape.perturbations import Perturbation
from landscape.results import Consistency
from landscape.runs import Run

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
    burn_in: int = BURN_IN,
    radius: float | None = None,
    budget: float = VECTOR_BYTES,
    progress: Progress | None = None,
) -> Consistency:
    """Measure the frozen protocol: perturbations of many batches at the objective's weights.

    Batches are drawn with replacement from the objective's data, by a generator of their own, so
    one seed gives every perturbation the same batches. SAM follows the objective's loss, AACE its
    own. For each batch: the displacement ε, its norm, its cosine to the gradient of the objective's
    loss, to that of all data and to the weights, and the loss rise L(w + ε) - L(w) on the same
    batch; over all of them, inner products by tensor. Gradients are not clipped, data not
    augmented, dropout is inactive. A schedule is at its largest radius. The objective and its model
    are left as they are.

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
        burn_in: Batches from which the memory is made where none is given: of the same sampling,
            in another stream of the seed. The batches that are measured do not change it.
        radius: Length that every ε is brought to, with the perturbation normalized, so that
            perturbations differ by direction alone; each its own by default.
        budget: Bytes of vectors that may lie in memory; beyond, they lie in a temporary file.
        progress: Called with batches done and in total, those of burn-in and of all data included.

    Raises:
        ValueError: A setting is out of range, or does not fit the model; or a memory is given to a
            direction that has none.
        TypeError: AACE on targets that are not classes.
    """
    return measure_consistencies(
        objective,
        [perturbation],
        batches=batches,
        batch_size=batch_size,
        seed=seed,
        bn=bn,
        step=step,
        memories=[memory],
        burn_in=burn_in,
        radius=radius,
        budget=budget,
        progress=progress,
    )[0]


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
