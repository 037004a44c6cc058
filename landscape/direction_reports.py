"""What the command line says of rises and offsets."""

from typing import Any

from landscape.terminal import number, table


def rise_headline(result: Any) -> dict[str, Any]:
    """Means over batches at the radius used; curvature beside that of the gradient."""
    told: dict[str, Any] = {"batches": len(result.norms), "mean ‖ε‖": float(result.norms.mean())}
    for place, rise, first in zip(result.places, result.rise, result.first_order, strict=True):
        told[f"rise on {place}"] = float(rise[0].mean())
        told[f"to first order on {place}"] = float(first[0].mean())
    told["share of batches that rise"] = float((result.rise[0, 0] > 0).mean())
    if result.eigenvalues.size:
        told["uᵀHu of ε"] = float(result.rayleigh.mean())
        told["uᵀHu of the gradient"] = float(result.gradient_rayleigh.mean())
        told["λ1"] = float(result.eigenvalues[0])
        for name, cosines in (("ε", result.alignment), ("gradient", result.gradient_alignment)):
            share = float((cosines**2).sum(1).mean())
            told[f"share of {name} in the top {cosines.shape[1]}"] = share
    return told


def rise_table(result: Any) -> str:
    """A row for each place: mean rise at ‖ε‖, to first order, and at each common radius."""
    radii = [f"at {number(radius)}" for radius in result.radii[1:]]
    rows = [
        [place, *map(number, (rise[0].mean(), first[0].mean(), *rise[1:].mean(1)))]
        for place, rise, first in zip(result.places, result.rise, result.first_order, strict=True)
    ]
    used = f"at ‖ε‖ {number(result.norms.mean())}"
    told = rise_headline(result)
    batches, share = told["batches"], told["share of batches that rise"]
    lines = [table(["mean rise, nats", used, "first order", *radii], rows)]
    lines.append(f"rises on {round(share * batches)} of {batches} batches of its own")
    if result.eigenvalues.size:
        k = result.alignment.shape[1]
        values = [told[name] for name in ("uᵀHu of ε", "uᵀHu of the gradient", "λ1")]
        shares = [told[f"share of {name} in the top {k}"] for name in ("ε", "gradient")]
        lines.append("uᵀHu: ε {}, gradient {}, λ1 {}".format(*map(number, values)))
        lines.append(
            f"share in the top {k} eigenvectors: ε {number(shares[0])}, gradient "
            f"{number(shares[1])}"
        )
    return "\n".join(lines)


def offset_headline(result: Any) -> dict[str, Any]:
    """Minimum and gain of each curve, with their intervals."""
    told: dict[str, Any] = {"‖mean ε‖": result.norm}
    for at, curve in enumerate(result.curves):
        for name in ("minimum", "gain"):
            told[f"{name} of the {curve}"] = float(getattr(result, name)[at])
            for end in ("low", "high"):
                told[f"{name} {end} of the {curve}"] = float(getattr(result, f"{name}_{end}")[at])
    return told


def offset_table(result: Any) -> str:
    """Two lines for each curve: which, and where it is smallest and what w + ε gains."""
    low, high = float(result.alpha[0]), float(result.alpha[-1])
    rows = []
    for at in range(len(result.curves)):
        place = float(result.minimum[at])
        beyond = {low: "≤ ", high: "≥ "}.get(place, "")
        row = [f"  {beyond}{number(place)}"]
        for name in ("minimum", "gain"):
            ends = (getattr(result, f"{name}_{end}")[at] for end in ("low", "high"))
            row.append("{} to {}".format(*map(number, ends)))
        row.insert(2, number(result.gain[at]))
        rows.append(row)
    heads = ["  minimum, ε", "95 %", "L(w) − L(w + ε)", "95 %"]
    head, *lines = table(heads, rows).split("\n")
    shown = [f"‖mean ε‖ {number(result.norm)}, ‖w‖ {number(result.weight_norm)}", head]
    for curve, line in zip(result.curves, lines, strict=False):
        shown += [curve, line]
    return "\n".join(shown + lines[len(result.curves) :])
