"""The figure of `make bench-surface`: speed of every contender, by net."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

OURS = ("float32", "mixed", "bfloat16")


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the speed relative to the tomgoldstein-style loop; whiskers are the rounds' range."""
    summary = report["summary"]
    settings: Any = {"font.size": 8, "pdf.fonttype": 42}
    settings |= {"axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        figure, panels = plt.subplots(
            1, len(summary), figsize=(6.8, 2.2), layout="constrained", squeeze=False, sharey=True
        )
        for axes, (name, rows) in zip(panels[0], summary.items(), strict=True):
            _panel(axes, rows, f"{name}, {report['nets'][name]['samples']} images")
        figure.supxlabel(
            "points per second on 51×51 points, set-up included, over the tomgoldstein-style loop "
            "at its fastest",
            fontsize=8,
        )
        for suffix in (".pdf", ".png"):
            figure.savefig(path.with_suffix(suffix), dpi=200)
        plt.close(figure)


def _panel(axes: Any, rows: dict[str, Any], title: str) -> None:
    names = list(reversed(rows))
    for place, name in enumerate(names):
        ratio = rows[name]["ratio_51"]
        color = "#0072b2" if name in OURS else "#9a9a9a"
        whisker = [[ratio["median"] - ratio["low"]], [ratio["high"] - ratio["median"]]]
        axes.barh(place, ratio["median"], xerr=whisker, color=color, error_kw={"lw": 0.8})
        axes.text(
            ratio["high"],
            place,
            f"  {ratio['median']:.2f}",
            va="center",
            backgroundcolor="white",
            zorder=-1,
        )
    labels = [f"ours, {name}" if name in OURS else name for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.axvline(1, color="black", lw=0.6, zorder=-2)
    axes.set_xlim(0, 1.2 * max(row["ratio_51"]["high"] for row in rows.values()))
    axes.set_title(title, fontsize=8)
