"""Small synthetic runs with every kind of result, for tests of what reads and shows them.

The numbers follow simple formulas: nothing is trained, nothing here needs torch.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from direction_samples import directions, offset, rise
from run_curvature import curvature_results

from landscape.layouts import Entry, Layout
from landscape.result_files import result_key
from landscape.results import (
    Barrier,
    Claim,
    Comparison,
    Consistency,
    Curve,
    Profile,
    Result,
    Surface,
    Trajectory,
)
from landscape.writers import RunWriter

STEPS, EVERY = 240, 30
CHECKPOINTS = tuple(range(0, STEPS + 1, EVERY))
METHODS = {"sgd": "SGD", "sam": "SAM", "aace": "SAM+AACE"}
_SHARPNESS = {"sgd": 6.0, "sam": 2.0, "aace": 3.2}
_AGREEMENT = {"SAM ρ=0.05": 0.03, "AACE ρ=0.2": 0.62}
_DATA = "0123456789abcdef"

LAYOUT = Layout(
    (
        Entry(name="conv.weight", shape=(4, 3, 3), offset=0, kind="weight"),
        Entry(name="norm.weight", shape=(4,), offset=36, kind="norm"),
        Entry(name="head.weight", shape=(5, 4), offset=40, kind="weight"),
        Entry(name="head.bias", shape=(5,), offset=60, kind="bias"),
    )
)


def make_runs(root: Path, names: tuple[str, ...] = ("sgd", "sam", "aace")) -> Path:
    """Write one run per name, each with results of every kind, and give the folder."""
    for seed, name in enumerate(names):
        _make_run(root / name, METHODS.get(name, "SGD"), name, seed)
    if len(names) > 1:
        _make_joint(root / "joint", names)
    return root


def _make_joint(folder: Path, names: tuple[str, ...]) -> None:
    """What is measured of several runs together."""
    facts = {
        "run_names": list(names),
        "bn": "recomputed",
        "data": "Fashion-MNIST, train split, 2000 class-balanced samples, seed 0",
        "samples": 2000,
        "test_samples": 1000,
        "dtype": "float32",
        "alignment": "none: weights are not permuted to match",
    }
    named = {"run_names": list(names)}
    comparison = replace(comparison_of(), facts=named)
    claim = replace(claim_of(), facts=claim_of().facts | named)
    measured = (_barrier(names, facts), _curve(names[:2], facts), _joint_surface(names, facts))
    for result in (*measured, comparison, claim):
        key = result_key(
            result.kind, result.options, run=" ".join(names), checkpoint=STEPS, data_digest=_DATA
        )
        made = replace(result, provenance={"created": "2026-01-01T00:01:00Z", "seconds": 1.0})
        made.save(folder / f"{result.kind}-{key}.h5")


def comparison_of() -> Comparison:
    """Three pairs by four scalars: one that differs, one within its margin, two bare."""
    middle = np.array([-0.052, 0.0013, 0.01, np.nan])
    half = np.array([0.013, 0.0034, np.nan, np.nan])
    offset = np.array([[-1.0, 0.0, 1.0]])
    return Comparison(
        labels=("SAM+AACE", "SAM"),
        names=("test_loss", "test_accuracy", "train_accuracy", "steps.displacement_norm"),
        units=("nats", "fraction", "fraction", ""),
        a=0.5 + middle[:, None] + 0.01 * offset,
        b=np.full((4, 3), 0.5),
        seeds=[0, 1, 2],
        difference=middle,
        interval_low=middle - half,
        interval_high=middle + half,
        equivalence_low=middle - 0.7 * half,
        equivalence_high=middle + 0.7 * half,
        probability=[0.25, 0.5, 0.25, np.nan],
        margin=[np.nan, 0.005, np.nan, np.nan],
        runs_to_differ=[2, 9, np.nan, np.nan],
        runs_to_equal=[np.nan, 3, np.nan, np.nan],
        verdicts=("differs", "equivalent", "no spread", "not finite"),
        facts={"settings_apart": {"rho": ["0.2", "0.05"]}, "left_out": ["sam-3"]},
        options={"scalars": ["test_loss"], "margins": {}, "paired": True},
    )


def claim_of() -> Claim:
    """Three statements: one supported, one contradicted in one of two groups, one undecided."""
    values = np.array([[0.7, 0.72, 0.69], [0.05, 0.06, 0.04], [1.2, 1.3, 1.1], [0.01, -0.05, 0.07]])
    mean = values.mean(1)
    half = 4.302653 * values.std(1, ddof=1) / np.sqrt(3)
    return Claim(
        statements=("frozen", "matched", "noise"),
        sources=("paper", "paper", "explanation"),
        texts=("Directions agree.", "The rise is as large.", "SAM's direction is noise."),
        effects=("mean cosine of AACE's ε minus SAM's", "rise over rise", "mean cosine"),
        units=("", "ratio", ""),
        relations=("above", "above", "within"),
        margin=[0.1, 0.8, 0.05],
        verdicts=("supports", "contradicts", "undecided"),
        row_statement=[0, 1, 1, 2],
        row_names=("SAM+AACE runs", "SAM runs", "SAM+AACE runs", "SAM runs"),
        seeds=[0, 1, 2],
        values=values,
        estimate=mean,
        interval_low=mean - half,
        interval_high=mean + half,
        equivalence_low=mean - 0.68 * half,
        equivalence_high=mean + 0.68 * half,
        nested_low=[0.68, np.nan, np.nan, -0.05],
        nested_high=[0.73, np.nan, np.nan, 0.08],
        row_verdicts=("supports", "contradicts", "supports", "undecided"),
        changes=("a margin of 0.665 or more",) * 3 + ("24 seeds, if mean and spread stayed",),
        facts={"methods": {"SAM": 3, "SAM+AACE": 3}},
    )


def _barrier(names: tuple[str, ...], facts: dict) -> Barrier:
    t, m = np.linspace(0, 1, 13), len(names)
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    ends = 0.06 + 0.02 * np.arange(m)
    chord = ends[i, None] * (1 - t) + ends[j, None] * t
    loss = chord + np.where(i == j, 0.0, 0.4 + 0.3 * (i + j))[..., None] * np.sin(np.pi * t) ** 2
    mean = (loss[..., :1] + loss[..., -1:]) / 2
    return Barrier(
        t=t,
        loss=loss,
        accuracy=np.exp(-0.4 * loss),
        evaluated=np.ones(loss.shape, bool),
        height=(loss - mean).max(axis=-1),
        height_over_line=(loss - chord).max(axis=-1),
        error_height=0.3 * (loss - mean).max(axis=-1),
        error_height_over_line=0.3 * (loss - chord).max(axis=-1),
        distance=3.0 + i + j,
        names=names,
        test_loss=1.1 * loss + 0.1,
        test_accuracy=np.exp(-0.45 * loss),
        facts=facts,
        options={"points": 11},
    )


def _curve(names: tuple[str, ...], facts: dict) -> Curve:
    t = np.linspace(0, 1, 31)
    loss = 0.06 + 0.02 * t + 0.05 * np.sin(np.pi * t)
    line = 0.06 + 0.02 * t + 0.7 * np.sin(np.pi * t) ** 2
    return Curve(
        t=t,
        loss=loss,
        accuracy=np.exp(-0.4 * loss),
        line_loss=line,
        line_accuracy=np.exp(-0.4 * line),
        position=np.stack([4 * t, 6 * t * (1 - t)], axis=1),
        bend_position=np.array([[2.0, 3.0]]),
        off_plane=np.zeros(31),
        training_loss=np.geomspace(0.8, 0.08, 50),
        names=names,
        test_loss=loss + 0.1,
        test_accuracy=np.exp(-0.5 * loss),
        line_test_loss=line + 0.1,
        line_test_accuracy=np.exp(-0.5 * line),
        facts=facts | {"seed": 0},
        options={"updates": 50},
    )


def _joint_surface(names: tuple[str, ...], facts: dict) -> Surface:
    """13 x 9 on a plane of distances, with the path of each run from one start to its own end."""
    alpha, beta = np.linspace(-2, 4, 13), np.linspace(-2, 2, 9)
    ends = np.array([[2.5 * k, -1.0 + k % 2] for k in range(len(names))]) * 2 / len(names)
    along = np.linspace(0, 1, len(CHECKPOINTS))[:, None]
    start = np.array([0.5, 1.6])
    loss = _bowl(alpha - 0.5, beta, 0.6)
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=loss,
        accuracy=np.exp(-0.4 * loss),
        evaluated=np.ones(loss.shape, bool),
        axis_labels=("joint PC 1", "joint PC 2"),
        path_step=np.tile(CHECKPOINTS, len(names)),
        path_position=np.concatenate([start * (1 - along) + end * along for end in ends]),
        path_off_plane=np.tile(0.4 * np.sin(np.pi * along[:, 0]), len(names)),
        path_loss=np.tile([_loss(step) for step in CHECKPOINTS], len(names)),
        path_run=np.repeat(np.arange(len(names)), len(CHECKPOINTS)),
        path_labels=names,
        mark_position=ends,
        mark_labels=names,
        facts=facts | {"plane": "joint", "unit": "weight distance", "variance": [0.6, 0.2]},
        options={"plane": "joint", "points": 13},
    )


def _make_run(path: Path, method: str, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    thetas = _walk(rng)
    writer = RunWriter.create(
        path,
        config={"preset": f"fashion-{name}", "seed": seed, "lr": 0.1, "epochs": 4, "rho": 0.05},
        problem={"name": "fashion", "options": {}},
        layout=LAYOUT,
        method=method,
        total_steps=STEPS,
        provenance={"versions": {"torch": "2.13.0"}, "device": "cpu"},
    )
    for step in range(STEPS + 1):
        if step in CHECKPOINTS:
            writer.save_checkpoint(step, thetas[CHECKPOINTS.index(step)], {"mean": np.zeros(4)})
            writer.add_evaluation(step, _loss(step) + 0.15, 0.88 - 0.7 * np.exp(-step / 40))
        if step < STEPS:
            writer.append(_row(step, method, rng))
    writer.finish({"test_loss": _loss(STEPS) + 0.15, "test_accuracy": 0.878})
    facts = {
        "run": writer.id,
        "run_name": name,
        "method": method,
        "model": "conv net",
        "parameters": LAYOUT.size,
        "bn": "frozen",
        "data": "Fashion-MNIST, train split, 2000 class-balanced samples, seed 0",
        "samples": 2000,
        "data_digest": _DATA,
        "dtype": "float32",
        "seed": 0,
    }
    for number, result in enumerate(_results(name, method, thetas, rng, facts)):
        made = {"created": f"2026-01-01T00:00:{number:02d}Z", "seconds": 1.0}
        result = replace(result, provenance=made)
        key = result_key(
            result.kind,
            result.options | {"number": number},
            run=writer.id,
            checkpoint=result.facts.get("checkpoint", 0),
            data_digest=_DATA,
        )
        result.save(path / "results" / f"{result.kind}-{key}.h5")


def _walk(rng: np.random.Generator) -> np.ndarray:
    lengths = np.concatenate([[0.0], np.linspace(1.0, 0.15, len(CHECKPOINTS) - 1)])
    drift = np.zeros(LAYOUT.size)
    drift[:20] = 1.0
    steps = lengths[:, None] * (0.5 * drift + 0.4 * rng.normal(size=(len(lengths), LAYOUT.size)))
    return np.cumsum(steps, axis=0).astype(np.float32)


def _loss(step: float) -> float:
    return 2.2 * float(np.exp(-step / 45)) + 0.06 + (0.1 if step < 160 else 0.0)


def _row(step: int, method: str, rng: np.random.Generator) -> dict[str, float]:
    row = {
        "step": step,
        "epoch": step / 60,
        "loss": _loss(step) * float(np.exp(0.15 * rng.normal())),
        "accuracy": 0.9 - 0.8 * float(np.exp(-step / 40)),
        "lr": 0.1 if step < 160 else 0.02,
        "gradient_norm": 1.0 + 0.1 * float(rng.normal()),
    }
    if method != "SGD":
        kept = method == "SAM+AACE"
        row["displacement_norm"] = (
            0.05 if not kept else 0.02 + 0.1 * (1 - float(np.exp(-step / 60)))
        )
        row["cosine_previous"] = (0.6 if kept else 0.02) + 0.05 * float(rng.normal())
        row["loss_rise"] = (0.02 if kept else 0.08) * (1 + 0.1 * float(rng.normal()))
        if step % 50 == 0:
            row["cosine_gradient"] = (-0.05 if kept else 1.0) + 0.01 * float(rng.normal())
    return row


def _results(
    name: str, method: str, thetas: np.ndarray, rng: np.random.Generator, facts: dict
) -> list[Result]:
    sharp = _SHARPNESS.get(name, 4.0)
    last = {"checkpoint": STEPS}
    results: list[Result] = [
        _random_surface(sharp, facts | last),
        _path_surface(sharp, facts | last),
        _profile(sharp, facts | last, rng),
        _trajectory(thetas, facts | last),
    ]
    for step in CHECKPOINTS[::2]:
        here = facts | {"checkpoint": step}
        results.extend(_consistency("frozen", label, step, rng, here) for label in _AGREEMENT)
        for label, up in (("SAM ρ=0.05", 1.0), ("AACE ρ=0.2", -0.5)):
            told = {"facts": here, "options": {"perturbation": label}, "perturbation": label}
            results.append(rise(up=up, step=step, **told))
            results.append(offset(-0.4 * up, step=step, **told))
    results.extend(curvature_results(method, sharp, CHECKPOINTS, facts, rng))
    if method != "SGD":
        label = "AACE ρ=0.2" if method == "SAM+AACE" else "SAM ρ=0.05"
        results.append(_consistency("online", label, STEPS, rng, facts | last))
        more = facts | last | {"window": "epoch", "vectors": "sketches of 4096 numbers"}
        results.append(directions(_AGREEMENT[label], 4, perturbation=label, facts=more))
    return results


def _bowl(alpha: np.ndarray, beta: np.ndarray, sharp: float) -> np.ndarray:
    a, b = np.meshgrid(alpha, beta, indexing="ij")
    return 0.06 + sharp * (0.5 * a**2 + 0.25 * b**2 + 0.3 * a * b) + 0.12 * np.sin(3 * a) ** 2


def _random_surface(sharp: float, facts: dict) -> Surface:
    """13 x 9 with all that can be measured; one corner diverged and one not evaluated."""
    alpha, beta = np.linspace(-1.5, 1.5, 13), np.linspace(-1, 1, 9)
    loss = _bowl(alpha, beta, sharp)
    evaluated = np.ones(loss.shape, bool)
    evaluated[-3:, :2] = False
    loss[-2:, -2:] = np.inf
    good = evaluated & np.isfinite(loss)
    curvature = np.where(good, sharp * (1 + 0.3 * alpha[:, None] + 0 * beta), np.nan)
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=np.where(evaluated, loss, np.nan),
        accuracy=np.where(good, np.exp(-0.4 * loss), np.nan),
        test_loss=np.where(evaluated, loss + 0.1, np.nan),
        test_accuracy=np.where(good, np.exp(-0.5 * loss), np.nan),
        metrics=np.where(good, 1 - np.exp(-0.4 * loss), np.nan)[None],
        metric_names=("error rate",),
        lambda_min=-0.3 * curvature * np.abs(alpha[:, None]),
        lambda_max=curvature,
        lambda_residual=0.01 * curvature,
        evaluated=evaluated,
        axis_labels=("direction 1", "direction 2"),
        facts=facts | {"plane": "random", "normalization": "filter", "ignore": ["bias", "norm"]},
        options={"plane": "random", "points": 13, "seed": 0},
    )


def _path_surface(sharp: float, facts: dict) -> Surface:
    """17 x 17 on the plane of the path, with the path."""
    axis = np.linspace(-1.3, 1.3, 17)
    along = np.linspace(1.0, 0.0, len(CHECKPOINTS)) ** 1.6
    position = np.stack([along, 0.7 * np.sin(2.2 * along)], axis=1)
    loss = _bowl(axis, axis, sharp)
    return Surface(
        alpha=axis,
        beta=axis,
        loss=loss,
        accuracy=np.exp(-0.4 * loss),
        evaluated=np.ones(loss.shape, bool),
        axis_labels=("PC 1", "PC 2"),
        path_step=np.array(CHECKPOINTS),
        path_position=position,
        path_off_plane=0.4 * np.sin(np.pi * along),
        path_loss=np.array([_loss(step) for step in CHECKPOINTS]),
        facts=facts | {"plane": "trajectory", "normalization": "none", "variance": [0.71, 0.13]},
        options={"plane": "trajectory", "points": 17, "seed": 0},
    )


def _profile(sharp: float, facts: dict, rng: np.random.Generator) -> Profile:
    alpha = np.linspace(-1, 1, 21)
    loss = 0.06 + sharp * 0.5 * alpha**2 * (1 + 0.1 * rng.normal(size=(3, 1)))
    return Profile(
        alpha=alpha,
        loss=loss,
        accuracy=np.exp(-0.4 * loss),
        evaluated=np.ones(loss.shape, bool),
        axis_label="random direction",
        facts=facts | {"plane": "random", "normalization": "filter", "ignore": ["bias", "norm"]},
        options={"points": 21, "repeats": 3, "seed": 0},
    )


def _consistency(
    protocol: str, label: str, step: int, rng: np.random.Generator, facts: dict
) -> Consistency:
    n, dim = 16, 40
    late = 1.0 if protocol == "online" else step / STEPS
    agreement = 0.3 + late * (_AGREEMENT[label] - 0.3)
    vectors = np.sqrt(1 - agreement) * rng.normal(size=(n, dim)) / np.sqrt(dim)
    vectors[:, 0] += np.sqrt(agreement)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    gram = np.clip(unit @ unit.T, -1, 1)
    mean = float((gram.sum() - n) / (n * (n - 1)))
    steps = np.full(n, step) if protocol == "frozen" else STEPS - n + np.arange(n)
    return Consistency(
        **(_details(label, n, rng) if protocol == "frozen" else {}),
        protocol=protocol,
        perturbation=label,
        step=steps,
        cosines=gram,
        norms=0.05 * (1 + 0.1 * rng.random(n)),
        consecutive=np.diagonal(gram, 1),
        loss_rise=0.05 * (1 + 0.2 * rng.random(n)),
        cosine_gradient=np.full(n, np.nan),
        mean_cosine=mean,
        null_low=-0.04,
        null_high=0.05,
        interval_low=mean - 0.05,
        interval_high=mean + 0.05,
        resultant_length=float(np.linalg.norm(unit.mean(axis=0))),
        facts=facts | {"bn": "batch", "batch_size": 128},
        options={"protocol": protocol, "perturbation": label, "batches": n, "seed": 0},
    )


def _details(label: str, n: int, rng: np.random.Generator) -> dict:
    """What the frozen protocol tells beside directions."""
    count = len(LAYOUT.entries)
    near = np.stack([share * (0.5 + 0.5 * np.eye(n)) for share in (0.4, 0.1, 0.4, 0.1)])
    details = {
        "radial": rng.uniform(-0.3, -0.2, n),
        "cosine_full": rng.uniform(-0.1, 0.1, n),
        "effective_share": rng.uniform(0.5, 0.6, n),
        "true_probability": rng.beta(8, 1, 8 * n),
        "layer_names": tuple(entry.name for entry in LAYOUT.entries),
        "layer_products": near,
        "layer_gradient": np.zeros((count, n)),
        "layer_radial": np.zeros((count, n)),
        "layer_weight": np.ones(count),
    }
    if label.startswith("AACE"):
        details |= {
            "component_names": ("anti-gradient", "margin"),
            "component_norms": np.full((2, n), 0.05),
            "component_cosines": np.stack([np.full(n, -0.2), np.full(n, 0.95)]),
            "component_mean_cosine": np.array([0.02, 0.7]),
        }
    return details


def _trajectory(thetas: np.ndarray, facts: dict) -> Trajectory:
    centered = thetas - thetas.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered.astype(float), full_matrices=False)
    offset = thetas.astype(float) - thetas[-1]
    position = offset @ axes[:2].T
    moves = np.diff(thetas.astype(float), axis=0)
    length = np.linalg.norm(moves, axis=1)
    turn = np.sum(moves[1:] * moves[:-1], axis=1) / (length[1:] * length[:-1])
    explained = scale**2 / np.sum(scale**2)
    return Trajectory(
        step=np.array(CHECKPOINTS),
        position=position,
        off_plane=np.linalg.norm(offset - position @ axes[:2], axis=1),
        explained=explained[:6],
        explained_null=np.array([0.61, 0.15, 0.07, 0.04, 0.03, 0.02]),
        distance_start=np.linalg.norm(thetas - thetas[0], axis=1),
        distance_end=np.linalg.norm(thetas - thetas[-1], axis=1),
        step_length=length,
        turning_angle=np.degrees(np.arccos(np.clip(turn, -1, 1))),
        loss=np.array([_loss(step) for step in CHECKPOINTS]),
        accuracy=np.linspace(0.2, 0.88, len(CHECKPOINTS)),
        facts=facts | {"plane": "trajectory", "variance": explained[:2].tolist()},
        options={},
    )
