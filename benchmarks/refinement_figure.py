"""The figure of bench_refinement: points saved against true error, stated error against true."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

COLORS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00")
SMALLEST = 1e-6  # errors below are drawn there


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One dot for each surface and tolerance; no dot where every point was evaluated."""
    settings = {"font.size": 8, "pdf.fonttype": 42, "axes.spines.top": False}
    with mpl.rc_context(settings | {"axes.spines.right": False}):
        figure, (saved, stated) = plt.subplots(1, 2, figsize=(6.8, 2.8), layout="constrained")
        tolerances = sorted({row["tolerance"] for row in rows})
        for place, (color, tolerance) in enumerate(zip(COLORS, tolerances, strict=True)):
            kept = [r for r in rows if r["tolerance"] == tolerance and r["evaluated"] < r["of"]]
            true = [max(row["true"], SMALLEST) for row in kept]
            apart = 1.03 ** (2 - place)  # equal shares side by side
            shares = [100 * apart * row["evaluated"] / row["of"] for row in kept]
            bounds = [max(row["stated"], SMALLEST) for row in kept]
            style = {"s": 9, "color": color, "alpha": 0.7, "linewidths": 0}
            saved.scatter(true, shares, label=f"{tolerance:g}", **style)
            stated.scatter(true, bounds, **style)
        for axes in (saved, stated):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("true error: 95th percentile of |Δ log loss|")
        saved.set_yticks([10, 20, 50, 100], ["10", "20", "50", "100"])
        saved.minorticks_off()
        saved.set_ylabel("points evaluated, %")
        saved.legend(title="tolerance", frameon=False)
        ends = [SMALLEST, max(tolerances)]
        stated.plot(ends, ends, color="black", lw=0.6)
        stated.text(1e-3, 1e-5, "the stated error holds\nabove the line")
        stated.set_ylabel("stated error")
        for suffix in (".pdf", ".png"):
            figure.savefig(path.with_suffix(suffix), dpi=200)
        plt.close(figure)
