"""What is kept of each batch of the frozen protocol, and the numbers that follow from all of them.

Vectors are needed until the last batch, for their products with each other; all else is a few
numbers per batch.
"""

from typing import Any

import numpy as np

from landscape.directions import agreement_of, gradient_noise
from landscape.frozen import Displaced, Displacer, Followed, Passed, flat_array
from landscape.layouts import Layout
from landscape.perturbations import Perturbation
from landscape.ranks import Ranks
from landscape.vector_stacks import VectorStack

PARTS = ("anti-gradient", "margin")
"""AACE's loss is the cross-entropy and the mean margin, so that its ε is a step against each."""


class FrozenMeasures:
    """What is known of one perturbation, batch by batch, over the batches of a protocol.

    Args:
        displacer: That of the perturbation.
        layout: Where tensors lie in theta.
        gradients: The task gradient of each batch, filled by the caller.
        full: The task gradient [param] of all data.
        batches: Of the whole protocol.
        ranks: The processes that share them.
        budget: Bytes that its vectors may take in memory.
    """

    def __init__(
        self,
        displacer: Displacer,
        layout: Layout,
        gradients: VectorStack,
        full: np.ndarray,
        *,
        batches: int,
        ranks: Ranks,
        budget: float,
    ) -> None:
        self.displacer, self._gradients, self._full = displacer, gradients, full
        self._names = tuple(entry.name for entry in layout)
        self._parts = [entry.slice for entry in layout]
        self._theta = flat_array(displacer.weights).astype(np.float64)
        made = _kinds_of_vectors(displacer.perturbation)
        kind, held = gradients.rows.dtype, held_by(ranks, batches)
        self._stacks = {
            name: VectorStack(held, layout.size, kind, budget=budget / len(made)) for name in made
        }
        tensors = (len(layout), batches)
        self._by_layer = {name: np.full(tensors, np.nan) for name in ("gradient", "radial")}
        self._numbers = {
            name: np.full(batches, np.nan)
            for name in ("rise", "norm", "gradient", "followed", "full", "effective_share")
        }
        self._probabilities: dict[int, np.ndarray] = {}
        self._is_cross_entropy = True

    def add(self, batch: int, passed: Passed, followed: Followed, found: Displaced) -> None:
        """Measure one batch's displacement; the task gradient of the batch is in its stack."""
        rise = self.displacer.loss_at(found.moves, passed.inputs, passed.targets)
        moved, gradient = flat_array(found.moves), self._gradients[batch]
        wide = moved.astype(np.float64)
        numbers = self._numbers
        numbers["rise"][batch] = rise - float(found.loss)
        numbers["norm"][batch] = np.linalg.norm(wide)
        numbers["gradient"][batch] = np.linalg.norm(gradient.astype(np.float64))
        numbers["full"][batch] = wide @ self._full
        for name, other in (("gradient", gradient), ("radial", self._theta)):
            self._by_layer[name][:, batch] = [wide[p] @ other[p] for p in self._parts]
        along = flat_array(followed.gradient)
        numbers["followed"][batch] = np.linalg.norm(along.astype(np.float64))
        if followed.weights is not None:
            numbers["effective_share"][batch] = _effective_share(followed.weights.numpy())
        if passed.probability is not None:
            self._probabilities[batch] = passed.probability.numpy()
        self._is_cross_entropy &= passed.is_cross_entropy
        for kind, vector in (("moves", moved), ("followed", along)):
            if kind in self._stacks:
                self._stacks[kind][batch] = vector

    def collect(self, ranks: Ranks) -> None:
        """Bring what each process measured to the first."""
        count = len(self._numbers["rise"])
        for stack in self._stacks.values():
            ranks.collect(stack, count)
        own = (self._numbers, self._by_layer, self._probabilities, self._is_cross_entropy)
        for rank, (numbers, by_layer, probabilities, plain) in enumerate(ranks.gather(own)):
            share = slice(rank, count, ranks.world)
            for mine, others in ((self._numbers, numbers), (self._by_layer, by_layer)):
                for name, values in mine.items():
                    values[..., share] = others[name][..., share]
            self._probabilities |= probabilities
            self._is_cross_entropy &= plain

    def products(self) -> np.ndarray:
        """Return the inner products [layer, n, n] of the displacements over each tensor."""
        if "moves" in self._stacks:
            moves = self._stacks["moves"]
            return moves.products(moves, self._parts)
        scale = _scale(self._numbers["norm"], self._numbers["gradient"])
        return self._gradients.products(self._gradients, self._parts) * np.outer(scale, scale)

    @property
    def loss_rise(self) -> np.ndarray:
        """Rise of each batch's loss [n], in nats."""
        return self._numbers["rise"]

    @property
    def cosine_gradient(self) -> np.ndarray:
        """Cosine of each displacement to the task gradient of its batch [n]."""
        lengths = self._numbers["norm"] * self._numbers["gradient"]
        return _ratio(self._by_layer["gradient"].sum(0), lengths)

    def fields(self, products: np.ndarray, batch_size: int, seed: int) -> dict[str, Any]:
        """Return what else a `Consistency` holds.

        Args:
            products: Those of `products`.
            batch_size: Samples in a batch.
            seed: As that of the result.
        """
        numbers, theta = self._numbers, self._theta
        weight = np.array([np.linalg.norm(theta[p]) for p in self._parts])
        lengths = numbers["norm"] * np.linalg.norm(theta)
        noise, predicted = gradient_noise(self._followed_products(products.sum(0)), batch_size)
        found: dict[str, Any] = {
            "radial": _ratio(self._by_layer["radial"].sum(0), lengths),
            "cosine_full": _ratio(numbers["full"], numbers["norm"] * np.linalg.norm(self._full)),
            "noise_scale": noise,
            "predicted_cosine": predicted,
            "layer_names": self._names,
            "layer_products": products,
            "layer_gradient": self._by_layer["gradient"],
            "layer_radial": self._by_layer["radial"],
            "layer_weight": weight,
        }
        if self._probabilities:
            found["true_probability"] = np.concatenate(
                [self._probabilities[batch] for batch in sorted(self._probabilities)]
            )
            found["effective_share"] = numbers["effective_share"]
        perturbation = self.displacer.perturbation
        if perturbation.has_own_loss and "followed" not in self._stacks:
            found |= self._components(products.sum(0), seed)
        return found

    def _followed_products(self, products: np.ndarray) -> np.ndarray:
        """Return the inner products [n, n] of the gradients that are followed."""
        whole = [slice(None)]
        if "followed" in self._stacks:
            return self._stacks["followed"].products(self._stacks["followed"], whole)[0]
        if self.displacer.perturbation.has_own_loss:
            scale = _scale(self._numbers["followed"], self._numbers["norm"])
            return products * np.outer(scale, scale)
        return self._gradients.products(self._gradients, whole)[0]

    def _components(self, products: np.ndarray, seed: int) -> dict[str, Any]:
        """Return what is known of the parts of ε = −c ∇L − c ∇(L_AACE − L), L the task loss."""
        scale = -_scale(self._numbers["norm"], self._numbers["followed"])
        whole = [slice(None)]
        against = self._gradients.products(self._gradients, whole)[0] * np.outer(scale, scale)
        across = self._stacks["moves"].products(self._gradients, whole)[0] * scale
        rest = products - across - across.T + against
        np.fill_diagonal(rest, np.diag(rest).clip(min=0))  # rounding, where ε has one part alone
        norms = np.sqrt([np.diag(against), np.diag(rest)])
        toward = np.array([np.diag(across), np.diag(products) - np.diag(across)])
        perturbation = self.displacer.perturbation
        closed = perturbation.mode == "ada" and not perturbation.threshold
        return {
            "component_names": PARTS
            if closed and self._is_cross_entropy
            else (PARTS[0], "rest of its loss"),
            "component_norms": norms,
            "component_cosines": _ratio(toward, norms * self._numbers["norm"]),
            "component_mean_cosine": np.array(
                [agreement_of(part, seed).mean_cosine for part in (against, rest)]
            ),
        }


def held_by(ranks: Ranks, batches: int) -> range:
    """Return the batches whose vectors a process keeps: the first has to have all in the end."""
    return range(batches) if ranks.first else ranks.share(batches)


def _kinds_of_vectors(perturbation: Perturbation) -> tuple[str, ...]:
    """Which vectors are kept: none where ε lies along the task gradient, which is kept anyway."""
    along = (
        perturbation.metric == "identity"
        and perturbation.ascent_steps == 1
        and not perturbation.has_memory
    )
    if not perturbation.has_own_loss:
        return () if along else ("moves",)
    return ("moves",) if along else ("moves", "followed")


def _effective_share(weights: np.ndarray) -> float:
    """Return (Σ s)² / (n Σ s²) of weights [sample]; NaN where all are zero."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / (len(weights) * squares) if squares > 0 else np.nan


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where that is 0."""
    with np.errstate(invalid="ignore"):  # what is not finite stays so
        return above / np.where(below == 0, np.nan, below)


def _scale(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, 0 where that is 0: a vector that vanished stays so at any scale."""
    return np.where(below == 0, 0.0, _ratio(above, below))
