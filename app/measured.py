"""The curvature results of one run: of which operator they are, and which one a page shows."""

from dataclasses import dataclass
from typing import Any

from landscape.results import Curvature
from landscape.runs import StoredResult
from landscape.storage import short_hash

from .store import AnyRun, MissingError, Store, checkpoint_of

OPERATORS = {
    "hessian": ("Hessian", "Hessian of the mean loss"),
    "ggn": ("Gauss–Newton", "generalized Gauss–Newton matrix; for cross-entropy the Fisher matrix"),
    "moment": ("Gradient moment", "second moment of the samples' gradients"),
}
"""Operators that `landscape spectrum` measures: name of its option -> (title, what it is)."""

SPECTRAL = ("spectrum", "density", "trace")
"""Kinds of results that are of one operator."""
KINDS = (*SPECTRAL, "curvature", "sharpness", "stability")
"""Kinds that the page of spectra shows."""

DIRECTIONAL = ("consistency", "directions", "rise", "offset")
"""Kinds that the page of consistency shows."""

_TOLD = {"bn": "frozen", "loss": "task", "parameters": "", "weight_decay": 0.0, "adam": ""}
"""What else makes an operator another one, and its plain value."""


def operator_of(stored: StoredResult) -> str:
    """Which of `OPERATORS` a result is of."""
    asked = stored.options.get("operator")
    if asked in OPERATORS:
        return str(asked)
    said = str(stored.facts.get("operator", "")).lower()
    if "gauss" in said:
        return "ggn"
    return "moment" if "moment" in said or "empirical fisher" in said else "hessian"


def variant_of(stored: StoredResult) -> str:
    """A name of what else makes an operator another one; "" for that of the whole net, plain."""
    if stored.kind not in SPECTRAL:
        return ""
    differs = {name: stored.options.get(name, plain) for name, plain in _TOLD.items()}
    return "" if differs == _TOLD else short_hash(differs, 8)


def variant_text(stored: StoredResult) -> str:
    """What makes an operator another one, in words."""
    told = {name: stored.options.get(name, plain) for name, plain in _TOLD.items()}
    words = [
        str(told["parameters"]),
        f"{str(told['loss']).upper()} loss" if told["loss"] != "task" else "",
        f"weight decay {told['weight_decay']:g}" if told["weight_decay"] else "",
        "preconditioned by Adam" if told["adam"] else "",
        f"{told['bn']} statistics" if told["bn"] != "frozen" else "",
    ]
    return ", ".join(word for word in words if word) or "whole net"


def is_plain_hessian(stored: StoredResult) -> bool:
    """Whether a result is of the Hessian of the task loss of the whole net, of any BN policy."""
    return operator_of(stored) == "hessian" and all(
        stored.options.get(name, plain) == plain for name, plain in _TOLD.items() if name != "bn"
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of one operator of a run."""

    store: Store
    run: AnyRun
    operator: str = "hessian"
    variant: str | None = None
    """None takes the plain one, or the newest where there is no plain one."""

    def variants(self) -> dict[str, StoredResult]:
        """The variants measured of the operator, by name, each with its newest result."""
        found = [stored for kind in SPECTRAL for stored in self.store.results(self.run, kind)]
        ours = [stored for stored in found if operator_of(stored) == self.operator]
        return {variant_of(s): s for s in sorted(ours, key=lambda stored: stored.created)}

    def chosen(self) -> str:
        """The variant shown."""
        there = self.variants()
        wanted = self.variant or ""
        return wanted if wanted in there else (list(there) or [""])[-1]

    def results(self, kind: str) -> list[StoredResult]:
        """The results of a kind, oldest first."""
        found = self.store.results(self.run, kind)
        if kind not in SPECTRAL:
            return found
        chosen = self.chosen()
        return [s for s in found if operator_of(s) == self.operator and variant_of(s) == chosen]

    def steps(self, *kinds: str) -> list[int]:
        """The checkpoints at which results of these kinds lie."""
        return sorted({checkpoint_of(stored) for kind in kinds for stored in self.results(kind)})

    def stored(self, kind: str, step: int | None) -> StoredResult:
        """The newest result of a kind at a checkpoint; None is the last that has one.

        Raises:
            MissingError: If there is none.
        """
        found = self.results(kind)
        if not found:
            other = kind in SPECTRAL and self.operator != "hessian"
            told = f" of the {OPERATORS[self.operator][1].partition(';')[0]}" if other else ""
            raise MissingError(f"No {kind}{told} measured yet.", self.command(kind))
        wanted = max(checkpoint_of(stored) for stored in found) if step is None else step
        there = [stored for stored in found if checkpoint_of(stored) == wanted]
        if not there:
            command = self.command(kind, f"--checkpoint {wanted}")
            raise MissingError(f"No {kind} at checkpoint {wanted}.", command)
        return there[-1]

    def load(self, kind: str, step: int | None) -> Any:
        """The result itself; raises like `stored`."""
        return self.store.load(self.stored(kind, step))

    def series(self, kind: str) -> list[tuple[int, Any]]:
        """The newest result of a kind at each checkpoint, in the order of steps."""
        newest = {checkpoint_of(stored): stored for stored in self.results(kind)}
        return [(step, self.store.load(newest[step])) for step in sorted(newest)]

    def through_training(self) -> StoredResult:
        """The newest curvature through training.

        Raises:
            MissingError: If there is none.
        """
        found = self.results("curvature")
        if not found:
            told = "No curvature through training measured yet."
            raise MissingError(told, self.command("curvature"))
        return found[-1]

    def curvature(self) -> Curvature:
        """The newest curvature through training; raises like `through_training`."""
        return self.store.load(self.through_training())

    def command(self, kind: str, *options: str) -> str:
        """The command line that measures a kind, of this operator."""
        if kind in SPECTRAL and self.operator != "hessian":
            options = (f"--operator {self.operator}", *options)
        return self.store.command(kind, self.run, *options)


def alike(store: Store, run: AnyRun, stored: StoredResult) -> Measured:
    """The results of the same operator as a result."""
    return Measured(
        store=store, run=run, operator=operator_of(stored), variant=variant_of(stored) or None
    )
