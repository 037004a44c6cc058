"""What the command line says of a result: its few numbers, its caption, its file."""

import math
import shutil
import textwrap
from typing import Any

from landscape.direction_reports import (
    offset_headline,
    offset_table,
    rise_headline,
    rise_table,
)
from landscape.terminal import duration, number, table


def headline(result: Any) -> dict[str, Any]:
    """The few numbers of a result that a reader wants first."""
    import numpy as np

    if result.kind in ("profile", "surface"):
        finite = result.loss[np.isfinite(result.loss)]
        low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        return {
            "points": int(result.evaluated.sum()),
            "lowest loss": float(low),
            "highest loss": float(high),
            "diverged": int((result.evaluated & ~np.isfinite(result.loss)).sum()),
        }
    if result.kind == "barrier":
        others = ~np.eye(len(result.names), dtype=bool)
        return {
            "minima": len(result.names),
            "highest barrier": float(result.height[others].max()),
            "over the line": float(result.height_over_line[others].max()),
            "of the error": float(result.error_height[others].max()),
        }
    if result.kind == "curve":
        return {
            "highest loss on the curve": float(result.loss.max()),
            "on the line": float(result.line_loss.max()),
            "at the ends": float(max(result.loss[0], result.loss[-1])),
        }
    if result.kind == "spectrum":
        last = len(result.eigenvalues)
        return {
            "λ1": float(result.eigenvalues[0]),
            **({f"λ{last}": float(result.eigenvalues[-1])} if last > 1 else {}),
            "largest residual": float(result.residuals.max()),
            "matvecs": result.matvecs,
            "converged": result.converged,
        }
    if result.kind == "density":
        trace, error = result.facts.get("trace"), result.facts.get("trace_error")
        return {"trace": trace, "standard error": error, "matvecs": result.matvecs}
    if result.kind == "trace":
        return {
            "trace": result.trace,
            "standard error": result.standard_error,
            "interval low": result.interval_low,
            "interval high": result.interval_high,
            "Frobenius norm": result.frobenius,
            "effective rank": result.effective_rank,
            "matvecs": result.matvecs,
        }
    if result.kind == "sharpness":
        return {
            "measures": {
                name: {"value": value, "lower bound": bool(bound)}
                for name, value, bound in zip(
                    result.names, result.value.tolist(), result.lower_bound, strict=True
                )
            },
            "loss": result.loss,
            "mean probability": result.mean_probability,
        }
    if result.kind == "stability":
        return {
            "multiplier": result.multiplier,
            "residual": float(result.residuals[0]),
            "products": result.products,
            "converged": result.converged,
        }
    if result.kind == "curvature":
        return {
            "checkpoints": len(result.step),
            "λ1 first": float(result.eigenvalues[0, 0]),
            "λ1 last": float(result.eigenvalues[-1, 0]),
            "matvecs": result.matvecs,
            "converged": bool(result.converged.all()),
        }
    if result.kind == "consistency":
        error = result.mean_cosine_error
        return {
            "mean cosine": result.mean_cosine,
            **({} if math.isnan(error) else {"error of sketches": error}),
            "interval low": result.interval_low,
            "interval high": result.interval_high,
            "null low": result.null_low,
            "null high": result.null_high,
            "resultant length": result.resultant_length,
            **_frozen_headline(result),
        }
    if result.kind == "claim":
        return {"statements": _claimed(result)}
    if result.kind == "rise":
        return rise_headline(result)
    if result.kind == "offset":
        return offset_headline(result)
    if result.kind == "directions":
        return {
            "vectors": result.vectors,
            "windows": len(result.start),
            "mean cosine of the run": result.run_mean_cosine,
            "error of sketches": result.run_mean_cosine_error,
            "null low": result.run_null_low,
            "null high": result.run_null_high,
            "of the last window": float(result.mean_cosine[-1]),
            "interval low": float(result.interval_low[-1]),
            "interval high": float(result.interval_high[-1]),
        }
    if result.kind == "comparison":
        return {"pairs": len(result.seeds), "scalars": _compared(result)}
    return {
        "checkpoints": len(result.step),
        "variance in the plane": float(result.explained[:2].sum()),
        "null": float(result.explained_null[:2].sum()),
        "largest off-plane distance": float(result.off_plane.max()),
    }


def _frozen_headline(result: Any) -> dict[str, Any]:
    """What the frozen protocol tells beside the cosines."""
    if not len(result.layer_names):
        return {}
    told = {
        "predicted from the noise": result.predicted_cosine,
        "effective directions": result.participation,
    }
    if layers := result.facts.get("largest_layers"):
        name, share, _ = layers[0]
        told["largest tensor"] = f"{name} ({share:.0%} of ‖ε‖²)"
    return told


def report(stored: Any, where: str) -> str:
    """A stored result in a few lines that fit the terminal."""
    result = stored.result
    seconds = result.provenance.get("seconds", 0)
    state = "measured before" if stored.found else f"measured in {duration(seconds)}"
    return f"{_body(result, where)}\n  {stored.path} ({state})"


def report_interrupted(interrupted: Any, where: str) -> str:
    """What was known when Ctrl-C came, and how to go on."""
    return (
        f"{_body(interrupted.result, where)}\n  interrupted and not stored: the same command goes "
        f"on from\n  {interrupted.folder}"
    )


def _body(result: Any, where: str) -> str:
    """What was measured, its numbers and its caption."""
    from landscape.figures.captions import caption

    what = result.kind
    if what == "consistency":
        what = f"consistency, {result.protocol}, {result.perturbation}"
    if what in ("rise", "offset"):
        what = f"{what}, {result.perturbation}"
    make_table = _TABLES.get(result.kind)
    numbers = textwrap.indent(make_table(result), "  ") if make_table else _filled(_line(result))
    return "\n".join([f"{what} of {where}", numbers, _filled(caption(result))])


def _filled(text: str) -> str:
    width = min(shutil.get_terminal_size((80, 24)).columns, 100)
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")


def _line(result: Any) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, bool | int | str) else number(value)}"
        for name, value in headline(result).items()
    )


def _sharpness_table(result: Any) -> str:
    """Two lines per measure: what, and how much; ≥ before what is a lower bound only."""
    audits = [f"audit {number_of}" for number_of in range(1, len(result.audit_names) + 1)]
    rows = []
    for at in range(len(result.names)):
        value = ("≥ " if result.lower_bound[at] else "") + number(result.value[at])
        if result.standard_error[at] == result.standard_error[at]:
            value += f" ± {number(result.standard_error[at], 2)}"
        ends = (result.interval_low[at], result.interval_high[at])
        interval = "–" if any(end != end for end in ends) else "{} to {}".format(*map(number, ends))
        ratios = [f"×{number(ratio)}" if ratio == ratio else "–" for ratio in result.audit[at]]
        rows.append([f"  {value}", interval, *ratios])
    head, *lines = table(["  value", "95 %", *audits], rows).split("\n")
    shown = [head]
    for name, setting, line in zip(result.names, result.settings, lines, strict=False):
        shown += [f"{name}; {setting}" if setting else name, line]
    shown += lines[len(result.names) :]
    shown += [f"{audit}: {name}" for audit, name in zip(audits, result.audit_names, strict=True)]
    return "\n".join(shown)


def _curvature_table(result: Any) -> str:
    """A row per checkpoint."""
    columns: list[tuple[str, Any]] = [
        ("step", [str(step) for step in result.step]),
        ("λ1", map(number, result.eigenvalues[:, 0])),
    ]
    if result.lowest.size:
        columns.append(("lowest", map(number, result.lowest)))
    if result.trace.size:
        pairs = zip(result.trace, result.trace_error, strict=True)
        columns.append(("trace", [f"{number(t)} ± {number(e, 2)}" for t, e in pairs]))
    if result.edge.size:
        columns.append(("edge", map(number, result.edge)))
    if result.multiplier.size:
        columns.append(("multiplier", map(number, result.multiplier)))
    columns.append(("loss", map(number, result.loss)))
    rows = list(zip(*(values for _, values in columns), strict=True))
    return table([name for name, _ in columns], [list(row) for row in rows])


def _claimed(result: Any) -> dict[str, dict[str, Any]]:
    """The verdict of each statement and every number of its rows."""
    from landscape.figures.tables import columns_of

    columns = columns_of(result)
    told = {
        name: {"verdict": verdict, "source": source, "rows": []}
        for name, verdict, source in zip(
            result.statements, result.verdicts, result.sources, strict=True
        )
    }
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        named = dict(zip(columns, row, strict=True))
        told[named.pop("statement")]["rows"].append(named)
    return told


def _claim_table(result: Any) -> str:
    """Each statement with its verdict, then each of its effects."""
    from landscape.figures.claim_words import SIGNS, bound_words, effect_words, rows_of

    columns = min(shutil.get_terminal_size((80, 24)).columns, 100)
    lines = []
    for i, (name, verdict) in enumerate(zip(result.statements, result.verdicts, strict=True)):
        said = f"{SIGNS[verdict]} {name}: {verdict}. {result.texts[i]}"
        lines += textwrap.wrap(said, columns - 2, subsequent_indent="  ")
        for row in rows_of(result, i):
            mean, ends = effect_words(result, row)
            unit = f" {result.units[i]}" if result.units[i] else ""
            told = f"{result.row_names[row]}: {mean}{unit} ({ends}), supported if "
            told += f"{bound_words(result, i)}; would change with {result.changes[row]}"
            lines += textwrap.wrap(
                told, columns - 2, initial_indent="    ", subsequent_indent="      "
            )
    return "\n".join(lines)


def _compared(result: Any) -> dict[str, dict[str, Any]]:
    """Every number of a comparison by scalar."""
    from landscape.figures.tables import columns_of

    columns = columns_of(result)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    told = [dict(zip(columns, row, strict=True)) for row in rows]
    return {row.pop("scalar"): row for row in told}


def _comparison_table(result: Any) -> str:
    """Two lines per scalar: what is found of it, and its numbers."""
    from landscape.figures.comparison_words import change_words, comparison_grid

    columns = shutil.get_terminal_size((80, 24)).columns
    (_, *heads, _), rows = comparison_grid(result)
    head, *lines = table(["", *heads], [["", *row[1:-1]] for row in rows]).split("\n")
    shown = [head]
    for i, (row, line) in enumerate(zip(rows, lines, strict=False)):
        change = change_words(result, i)
        told = f"{row[0]}: {row[-1]}{f' ({change})' if change else ''}"
        shown += [*textwrap.wrap(told, columns - 2, subsequent_indent="  "), line]
    return "\n".join(shown + lines[len(rows) :])


_TABLES = {
    "sharpness": _sharpness_table,
    "curvature": _curvature_table,
    "comparison": _comparison_table,
    "claim": _claim_table,
    "rise": rise_table,
    "offset": offset_table,
}
