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
            1, len(summary), figsize=(6.8, 2.4), layout="constrained", squeeze=False
        )
        for axes, (name, rows) in zip(panels[0], summary.items(), strict=True):
            _panel(axes, rows, f"{name}, {report['nets'][name]['samples']} images")
        for suffix in (".pdf", ".png"):
            figure.savefig(path.with_suffix(suffix), dpi=200)
        plt.close(figure)


def _panel(axes: Any, rows: dict[str, Any], title: str) -> None:
    names = list(reversed(rows))
    for place, name in enumerate(names):
        row = rows[name]
        low, high = row["ratio_range"]
        color = "#0072b2" if name in OURS else "#9a9a9a"
        whisker = [[row["ratio"] - low], [high - row["ratio"]]]
        axes.barh(place, row["ratio"], xerr=whisker, color=color, error_kw={"lw": 0.8})
        axes.text(high, place, f"  {row['ratio']:.2f}", va="center")
    labels = [f"ours, {name}" if name in OURS else name for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.axvline(1, color="black", lw=0.6)
    axes.set_xlim(0, 1.18 * max(row["ratio_range"][1] for row in rows.values()))
    axes.set_xlabel("points per second, set-up included,\nover those of the plain loop")
    axes.set_title(title, fontsize=8)
