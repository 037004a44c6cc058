"""What the rounds of `make bench-curvature` say: medians, ratios, targets; tables and a figure."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

# net, what, the other row, ratio wanted, goal
TARGETS = [
    ("resnet-20", "product", "pyhessian", 1.25, 1.4),
    ("resnet-20", "product", "hessian-eigenthings", 1.7, None),
    ("resnet-20", "product", "curvlinops", 2.0, None),
    ("wrn-28-2", "product", "pyhessian", None, 1.2),
    ("resnet-20", "top 5", "pyhessian", 5.0, None),
    ("resnet-20", "top 5", "curvlinops", 3.5, None),
    ("resnet-20", "top 5", "hessian-eigenthings", 1.8, None),
    ("resnet-20", "density", "curvlinops", 1.8, None),
]


def summarize(report: dict[str, Any]) -> dict[str, Any]:
    """Ratios to each contender, round by round, with their range; printed beside the targets."""
    found: dict[str, Any] = {}
    for name, net in report["nets"].items():
        tables = {"product": net["products"]}
        if "eigenpairs" in net:
            tables["top 5"] = {row: v["seconds"] for row, v in net["eigenpairs"].items()}
            tables["density"] = net["densities"]
        print(f"\n{name}, {net['parameters']} parameters, {net['samples']} images")
        for what, rows in tables.items():
            for row, times in rows.items():
                found[f"{name}, {what}, {row}"] = _line(net, what, row, times, rows["landscape"])
    print()
    for name, what, row, least, goal in TARGETS:
        ratio = found.get(f"{name}, {what}, {row}", {}).get("ratio")
        if ratio is not None:
            wanted = f"at least {least}" if least else f"goal {goal}"
            verdict = "reached" if ratio >= (least or goal) else "MISSED"
            print(f"{name}, {what}: {ratio:.2f}x {row}, {wanted}: {verdict}")
    _print_scaling(report)
    return found


def _line(
    net: dict[str, Any], what: str, row: str, times: list[float], ours: list[float]
) -> dict[str, Any]:
    ratios = [other / own for other, own in zip(times, ours, strict=True)]
    line: dict[str, Any] = {
        "seconds": statistics.median(times),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }
    text = f"  {what:8} {row:29} {line['seconds']:8.3f} s  {line['ratio']:5.2f}x"
    text += f" ({line['ratio_low']:.2f}-{line['ratio_high']:.2f})"
    if what == "product":
        text += f"  error {net['product_errors'][row]:.1e}"
    if what == "top 5":
        pairs = net["eigenpairs"][row]
        text += f"  {pairs['products']} products, residual {pairs['residual']:.1e}"
    print(text)
    return line


def _print_scaling(report: dict[str, Any]) -> None:
    print()
    for row in report["scaling"]:
        print(
            f"{row['net']:10} {row['parameters']:>10} parameters: {row['product_seconds']:.2f} s a "
            f"product of {row['samples']} images, {row['memory_bytes'] / 1e6:.0f} MB in all; "
            f"beyond the product's own {row['vectors']:.1f} vectors for a basis of {row['basis']}"
        )
    ranks = report["ranks"]
    print(
        f"two one-thread ranks: {ranks['gain']:.2f}x one; "
        f"largest difference {ranks['largest_difference']:.1e}"
    )


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the time over ours; time and memory against parameters."""
    settings: Any = {"font.size": 8, "pdf.fonttype": 42}
    settings |= {"axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        figure, panels = plt.subplots(1, 3, figsize=(6.8, 2.4), layout="constrained")
        _bars(panels[0], report["summary"])
        rows = report["scaling"]
        sizes = [row["parameters"] for row in rows]
        for axes, key, scale, label in (
            (panels[1], "product_seconds", 1.0, "seconds of a product"),
            (panels[2], "memory_bytes", 1e-9, "peak memory, GB"),
        ):
            axes.loglog(sizes, [scale * row[key] for row in rows], "o-", color="#0072b2", ms=3)
            axes.set_xlabel(f"parameters ({rows[0]['samples']} images)")
            axes.set_title(label, fontsize=8)
        whole = [4e-9 * (row["basis"] + 4) * row["parameters"] for row in rows]
        panels[2].loglog(
            sizes, whole, ":", color="#666666", label=f"{rows[0]['basis']} + 4 vectors"
        )
        panels[2].legend(frameon=False, fontsize=7)
        for suffix in (".pdf", ".png"):
            figure.savefig(path.with_suffix(suffix), dpi=200)
        plt.close(figure)


def _bars(axes: Any, summary: dict[str, Any]) -> None:
    wanted = [(name, what, row) for name, what, row, _, _ in TARGETS]
    rows = [(key, summary[", ".join(key)]) for key in wanted if ", ".join(key) in summary]
    for place, (_, line) in enumerate(reversed(rows)):
        axes.barh(place, line["ratio"], color="#9a9a9a")
        axes.text(line["ratio"], place, f" {line['ratio']:.2f}", va="center", fontsize=6)
    labels = [f"{name}, {what}: {row}" for (name, what, row), _ in reversed(rows)]
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.axvline(1, color="black", lw=0.6)
    axes.margins(x=0.12)
    axes.set_title("time over ours", fontsize=8)
