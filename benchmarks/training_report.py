"""What the rounds of `make bench-training` say: medians, ratios round by round, targets."""

import statistics
from pathlib import Path
from typing import Any

AGREEMENT = 1e-9  # of the plain loop's update with ours, in float64
STEP = 2.15  # steps of SGD that a step of SAM may take
LOOP = 2.0  # images a second over those of the plain loop, on a GPU


def write(report: dict[str, Any], path: Path) -> None:
    """Write the tables and print them."""
    where = report["machine"]
    head = (
        f"{where['processor']} ({where['capability']}), {where['threads']} threads, "
        f"{where['gpu'] or 'no GPU'}, torch {where['versions']['torch']}, commit "
        f"{where['commit']}. Medians over the rounds; ratios are formed within a round, with their "
        "range."
    )
    lines = ["# Speed of training", "", head, ""]
    for what, table in (("steps", _steps), ("loops", _loops), ("compile", _compile)):
        for part, found in report["parts"].items():
            kind, _, name = part.partition(":")
            if kind == what:
                lines += [*table(name, found), ""]
    if where["gpu"] is None:
        lines += ["WRN-28-10 in bfloat16, compiled, against plain loops: not measured on a GPU."]
    text = "\n".join(lines).rstrip() + "\n"
    path.write_text(text)
    print(text)


def _ratios(times: list[float], others: list[float]) -> str:
    found = [a / b for a, b in zip(times, others, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _median_ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def _steps(name: str, found: dict[str, Any]) -> list[str]:
    seconds = found["seconds"]
    passes, plain = seconds["two passes"], seconds["sgd"]
    lines = [
        f"## A step of {name}, load {found['load'][0]:.1f}",
        "",
        "| method | ms | over a step of SGD | over two forward and backward passes |",
        "|---|---|---|---|",
    ]
    for method, times in seconds.items():
        row = f"| {method} | {1e3 * statistics.median(times):.1f} | {_ratios(times, plain)} | "
        lines.append(row + ("" if method == "sgd" else _ratios(times, passes)) + " |")
    methods = [method for method in seconds if method not in ("sgd", "two passes")]
    worst = max(methods, key=lambda method: _median_ratio(seconds[method], plain))
    ratio = _median_ratio(seconds[worst], plain)
    verdict = "reached" if ratio <= STEP else "MISSED"
    return [*lines, "", f"At most {STEP} steps of SGD: {verdict}; most is {worst}, {ratio:.2f}."]


def _loops(name: str, found: dict[str, Any]) -> list[str]:
    seconds, ours = found["seconds"], found["seconds"]["landscape"]
    lines = [
        f"## SAM+AACE on {name}, batches of {found['images']}, load {found['load'][0]:.1f}",
        "",
        "| loop | images/s | landscape's images/s over it |",
        "|---|---|---|",
    ]
    for loop, times in seconds.items():
        rate = found["images"] / statistics.median(times)
        lines.append(f"| {loop} | {rate:.0f} | {_ratios(times, ours)} |")
    rate = found["images"] / statistics.median(ours)
    share = rate * found["operations"] / found["bare"]
    settings = ", ".join(f"{k} {v}" for k, v in found["settings"].items()) or "float32, eager"
    lines += ["", f"landscape ({settings}) does {100 * share:.0f} % of the operations per second"]
    lines[-1] += f" of a bare matrix product ({found['bare'] / 1e12:.2f} TFLOP/s)."
    lines += [f"The plain update differs from ours by {found['disagreement']:.1e} of its length."]
    if found["settings"]:
        ratio = _median_ratio(seconds["plain loop"], ours)
        lines += [f"{LOOP}x the plain loop: {'reached' if ratio >= LOOP else 'MISSED'}."]
    return lines


def _compile(name: str, found: dict[str, Any]) -> list[str]:
    seconds, plain = found["seconds"], found["seconds"]["float32"]
    lines = [
        f"## A step of SAM+AACE on {name}, eager and compiled, load {found['load'][0]:.1f}",
        "",
        "| | ms | float32 eager over it | first step, s |",
        "|---|---|---|---|",
    ]
    for row, times in seconds.items():
        middle = 1e3 * statistics.median(times)
        lines.append(
            f"| {row} | {middle:.1f} | {_ratios(plain, times)} | {found['first'][row]:.1f} |"
        )
    return lines
