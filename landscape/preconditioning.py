"""The curvature that an adaptive optimizer sees: an operator between powers of its preconditioner.

Adam moves by -lr · m / P with P = √v̂ + ε, so its stability is that of P⁻¹ H. That product is not
symmetric; P^(-1/2) H P^(-1/2) has the same eigenvalues and is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from landscape.layouts import Entry, Layout
from landscape.operators import Operator


def preconditioned(operator: Operator, second_moment: Tensor, *, eps: float) -> Operator:
    """The operator P^(-1/2) A P^(-1/2) with P = √second_moment + eps, for Adam and its kin.

    Eigenvalues are those of P⁻¹ A; an eigenvector u of it is P^(-1/2) w for w of this operator.
    Weight decay that Adam adds to the gradient goes into A first, `add_weight_decay`; decoupled
    weight decay (AdamW) does not.

    Args:
        operator: A, over the parameters that the second moment is of.
        second_moment: Mean squares of the gradient, bias corrected `[param]`, as `adam_moment`
            reads them.
        eps: What the optimizer adds to their root.

    Raises:
        ValueError: If sizes differ, or P is not positive and finite.

    Source: Cohen et al. 2022, "Adaptive gradient methods at the edge of stability", section 2.
    """
    if second_moment.shape != operator.origin.shape:
        raise ValueError(
            f"the second moment must have the length of the operator, {operator.size}, "
            f"got shape {tuple(second_moment.shape)}; restrict it to the same parameters"
        )
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a number from 0 on, got {eps}")
    scale = second_moment.detach().double().sqrt() + eps
    bad = ~(torch.isfinite(scale) & (scale > 0))
    if bad.any():
        raise ValueError(
            f"√second_moment + eps must be positive and finite, got {int(bad.sum())} of "
            f"{bad.numel()} entries that are not; is it the state after at least one step?"
        )
    root = scale.rsqrt().to(operator.origin)
    told = operator.facts.get("operator", "operator")
    return replace(
        operator,
        product=lambda v: root * operator(root * v),
        facts={
            **operator.facts,
            "operator": f"{told}, preconditioned: P^(-1/2) A P^(-1/2), P = sqrt(v) + eps",
            "preconditioner_eps": eps,
        },
    )


def adam_moment(
    state: Mapping[str, Any], layout: Layout, *, names: Sequence[str] | None = None
) -> tuple[Tensor, float]:
    """Adam's bias-corrected second moment in the layout of theta, and its eps.

    Args:
        state: `optimizer.state_dict()` of torch.optim.Adam or AdamW, after at least one step.
        layout: The layout of theta, as `objective.layout`.
        names: The name of each parameter in the order the optimizer holds them. Not needed where
            the state has names, or the optimizer was given `model.parameters()`.

    Returns:
        `[param]`, float64: exp_avg_sq / (1 - beta2^step), with amsgrad its largest so far; and eps.

    Raises:
        ValueError: If the state is not Adam's, or does not fit the layout.
    """
    groups = state.get("param_groups", ())
    if not groups or not all("betas" in g and "eps" in g for g in groups):
        raise ValueError(
            "the state must be the state_dict() of torch.optim.Adam or AdamW, got "
            f"{', '.join(sorted(map(str, state))) or 'nothing'}"
        )
    if len({group["eps"] for group in groups}) > 1:
        raise ValueError(
            f"Adam's groups must share one eps, got {sorted({group['eps'] for group in groups})}"
        )
    held = _states_by_name(state, layout, names)
    parts = [_corrected(held[entry.name], entry) for entry in layout]
    return torch.cat(parts), float(groups[0]["eps"])


def _states_by_name(
    state: Mapping[str, Any], layout: Layout, names: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Each tensor's state, with its beta2 and whether amsgrad."""
    groups = state["param_groups"]
    slots = [(index, group) for group in groups for index in group["params"]]
    if names is None and all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    if names is None:
        slots = [slot for slot in slots if slot[0] in state["state"]]  # frozen ones have none
        names = [entry.name for entry in layout]
        if len(groups) > 1:
            raise ValueError(
                "the state must tell which parameter is which, got several groups without names; "
                "give names, or make the optimizer of model.named_parameters()"
            )
    if len(names) != len(slots):
        raise ValueError(
            f"the state must hold the {len(names)} named parameters, got {len(slots)}; give names "
            "in the optimizer's order, and train all of them for at least one step"
        )
    held = {}
    for name, (index, group) in zip(names, slots, strict=True):
        if index in state["state"]:
            own = {"beta2": group["betas"][1], "amsgrad": group.get("amsgrad", False)}
            held[name] = state["state"][index] | own
    missing = [entry.name for entry in layout if entry.name not in held]
    if missing:
        raise ValueError(
            f"the state must hold every trainable parameter, got none for {missing[0]!r}; was it "
            "given to the optimizer, and trained for at least one step?"
        )
    return held


def _corrected(own: Mapping[str, Any], entry: Entry) -> Tensor:
    kind = "max_exp_avg_sq" if own["amsgrad"] else "exp_avg_sq"
    if kind not in own or tuple(own[kind].shape) != entry.shape:
        found = tuple(own[kind].shape) if kind in own else sorted(own)
        raise ValueError(
            f"Adam's {kind} of {entry.name!r} must have shape {entry.shape}, got {found}; is the "
            "state of another model or optimizer?"
        )
    correction = 1 - float(own["beta2"]) ** float(own["step"])
    return own[kind].detach().double().flatten() / correction
