"""Figures as files: a figure with its recipe and data beside it.

A figure `name.pdf` has a sidecar `name.json`, the recipe, and the data it was drawn from
(`name.h5` for a result, `name.csv` for recorded columns; `name-1.h5`, ... where there are several).
`redraw` makes the same bytes from them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from landscape.figures.captions import caption
from landscape.figures.claim_words import claim_grid
from landscape.figures.comparison_words import comparison_grid
from landscape.figures.sharpness_tables import latex_of, latex_of_grid, sharpness_table
from landscape.figures.subjects import (
    DRAWN,
    MEASURED,
    Drawing,
    check_kind,
    drawing_of_result,
    drawing_of_runs,
)
from landscape.figures.tables import Columns, csv_of, read_csv
from landscape.result_files import load_result, save_result
from landscape.results import Curve, Result, Spectrum
from landscape.runs import Run
from landscape.storage import RunFileError, plain, write_json, write_whole

__all__ = [
    "FORMATS",
    "csv_of",
    "draw_and_save",
    "read_csv",
    "read_recipe",
    "record",
    "redraw",
    "save_figure",
]

FORMATS = ("pdf", "svg", "png", "eps", "tex")
RECIPE_VERSION = "1.0"


def draw_and_save(
    what: Sequence[str | Path],
    *,
    venue: str = "icml",
    formats: str | Sequence[str] = ("pdf", "png"),
    out: str | Path | None = None,
    checkpoint: str | None = None,
    wanted: Mapping[str, Any] | None = None,
    **style: Any,
) -> list[Path]:
    """Draw stored results for paper and save figure, recipe and data.

    Args:
        what: Run folders and then the kind of figure, or one result file (and perhaps a kind).
        venue: Whose widths and type to use.
        formats: Of "pdf", "svg", "png", "eps", and "tex" for the tables of
            sharpness and comparison; or one text
            with commas.
        out: File name without its ending; `KIND-RUN` in the current folder by default.
        checkpoint: Of the measured result: "first", "last" or a step; the newest by default.
        wanted: What a run's results must say of themselves, e.g. {"plane": "trajectory"}.
        style: Further keywords of the paper function.

    Returns:
        The files written: figures, then the recipe, then data.

    Raises:
        ValueError: If kind, venue or format is unknown, or nothing is stored to be drawn.
        RunFileError: If a file is missing or damaged.
    """
    kinds = _formats(formats)
    paths = [Path(entry) for entry in what]
    if paths and paths[0].is_file():
        kind = None if len(paths) == 1 else str(what[1])
        drawing, name = drawing_of_result(load_result(paths[0]), kind), paths[0].stem
    else:
        if len(paths) < 2:
            raise ValueError(
                "expected run folders and then the kind of figure, or a result file, got "
                f"{' '.join(map(str, what)) or 'nothing'}; for example: landscape figure runs/a "
                "surface"
            )
        kind = check_kind(str(what[-1]))
        runs = [Run(path) for path in paths[:-1]]
        drawing = drawing_of_runs(runs, kind, checkpoint, wanted)
        name = "-".join([kind, *[r.path.name for r in runs]])
    if "quantity" in style and drawing.function not in MEASURED:
        raise ValueError(
            f"a figure {drawing.function.removeprefix('draw_')!r} has no choice of quantity; "
            "leave it out"
        )
    drawing = Drawing(
        function=drawing.function,
        subject=drawing.subject,
        style={**drawing.style, "venue": venue, **style},
    )
    return _saved(drawing, out or name, kinds)


def _saved(drawing: Drawing, out: str | Path, kinds: list[str]) -> list[Path]:
    latex = _latex(drawing) if "tex" in kinds else ""
    recipe, data = record(drawing)
    figure = _drawn(drawing)
    return save_figure(figure, out, formats=kinds, recipe=recipe, data=data, latex=latex)


def _latex(drawing: Drawing) -> str:
    if drawing.function == "draw_sharpness":
        return latex_of(sharpness_table(drawing.subject, audit=drawing.style.get("audit")))
    if drawing.function == "draw_comparison":
        return latex_of_grid(*comparison_grid(drawing.subject), left=1)
    if drawing.function == "draw_claim":
        return latex_of_grid(*claim_grid(drawing.subject), left=2)
    raise ValueError(
        "tex is the format of a table, of sharpness, comparison or claim; take pdf, svg, png or "
        "eps for figures"
    )


def save_figure(
    figure: Any,
    path: str | Path,
    *,
    formats: str | Sequence[str] = ("pdf", "png"),
    recipe: Mapping[str, Any],
    data: Mapping[str, Result | Columns] | None = None,
    latex: str = "",
) -> list[Path]:
    """Save a paper figure in each format, its recipe as JSON, and the data it shows.

    Each file appears whole or not at all. Equal figures give equal bytes.

    Args:
        figure: A figure of `landscape.figures.paper`.
        path: File name; an ending of a known format is dropped.
        formats: Of "pdf", "svg", "png", "eps".
        recipe: What `redraw` needs; `record` makes it.
        data: Results and tables by the name that the recipe gives them: "" or "-1", "-2", ...
        latex: What a file of the format "tex" holds.

    Returns:
        The files written: figures, then the recipe, then data.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix.lstrip(".").lower() in FORMATS else path
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in _formats(formats):
        target = stem.with_name(f"{stem.name}.{kind}")
        with write_whole(target) as temporary:
            temporary.write_bytes(latex.encode() if kind == "tex" else figure.to_bytes(kind))
        written.append(target)
    sidecar = stem.with_name(f"{stem.name}.json")
    write_json(sidecar, {"recipe_version": RECIPE_VERSION, **recipe})
    return [*written, sidecar, *_save_data(stem, data or {})]


def _save_data(stem: Path, data: Mapping[str, Result | Columns]) -> Iterator[Path]:
    for name, content in data.items():
        if isinstance(content, Result):
            yield save_result(content, stem.parent / f"{stem.name}{name}.h5", replace=True)
        else:
            target = stem.parent / f"{stem.name}{name}.csv"
            with write_whole(target) as temporary:
                temporary.write_text(csv_of(content), encoding="utf-8")
            yield target


def _formats(formats: str | Sequence[str]) -> list[str]:
    names = formats.split(",") if isinstance(formats, str) else list(formats)
    names = [name.strip().lower() for name in names]
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    if not names:
        raise ValueError(f"at least one format is needed, of {', '.join(FORMATS)}")
    return names


def _drawn(drawing: Drawing) -> Any:
    paper = import_module("landscape.figures.paper")
    return getattr(paper, drawing.function)(drawing.subject, **drawing.style)


def record(drawing: Drawing) -> tuple[dict[str, Any], dict[str, Result | Columns]]:
    """The recipe of a drawing, and the data it names.

    In the recipe a result stands as {"result": name, "digest": ...}, recorded columns as
    {"table": name, "sha256": ...}; a single one has the name "", several "-1", "-2", ....
    """
    found: list[Result | Columns] = []

    def collect(value: Any) -> Any:
        if isinstance(value, Result):
            found.append(_light(value))
            return {"at": len(found)}
        if isinstance(value, Mapping):
            found.append({k: np.asarray(column, np.float64) for k, column in value.items()})
            return {"at": len(found)}
        if isinstance(value, list | tuple):
            return [collect(entry) for entry in value]
        return plain(value)

    subject = collect(drawing.subject)
    style = {name: collect(value) for name, value in drawing.style.items()}
    names = [""] if len(found) == 1 else [f"-{i + 1}" for i in range(len(found))]

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        content, at = found[value["at"] - 1], names[value["at"] - 1]
        if isinstance(content, Result):
            return {"result": at, "digest": content.digest}
        return {"table": at, "sha256": hashlib.sha256(csv_of(content).encode()).hexdigest()}

    recipe = {
        "function": drawing.function,
        "subject": name(subject),
        "style": {key: name(value) for key, value in style.items()},
        "captions": [
            caption(
                content,
                style.get("quantity"),
                _panels(drawing),
                style.get("scale"),
                together=isinstance(drawing.subject, list) and len(drawing.subject) > 1,
            )
            for content in found
            if isinstance(content, Result)
        ],
    }
    return recipe, dict(zip(names, found, strict=True))


def _panels(drawing: Drawing) -> Sequence[str] | None:
    """Which panels of curvature through training are drawn, or which part of a result."""
    chosen = {
        "draw_layers": ("layers",),
        "draw_curvature": ("eigenvalues", "trace"),
        "draw_shares": ("shares",),
        "draw_components": drawing.style.get("parts", ("components",)),
        "draw_tensors": ("tensors",),
        "draw_rise": (drawing.style.get("part", "rise"),),
    }
    return drawing.style.get("panels") or chosen.get(drawing.function)


def _light(result: Result) -> Result:
    """The result without eigenvectors and trained bends, which no figure shows."""
    if isinstance(result, Spectrum):
        return replace(result, eigenvectors=None)
    return replace(result, bends=None) if isinstance(result, Curve) else result


def redraw(
    path: str | Path,
    *,
    out: str | Path | None = None,
    formats: str | Sequence[str] = ("pdf", "png"),
) -> list[Path]:
    """Draw a figure again from its recipe and the data beside it: the same bytes.

    Args:
        path: The recipe, `name.json`.
        out: File name without its ending; beside the recipe by default.
        formats: Of "pdf", "svg", "png", "eps".

    Raises:
        RunFileError: If the recipe is damaged, or the data are missing or not those of the recipe.
    """
    path = Path(path)
    drawing = read_recipe(path)
    return _saved(drawing, out or path.with_suffix(""), _formats(formats))


def read_recipe(path: str | Path) -> Drawing:
    """Read a recipe and the data beside it.

    Raises:
        RunFileError: If the recipe is damaged, or the data are missing or not those of the recipe.
    """
    path = Path(path)
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        version, function = str(recipe["recipe_version"]), recipe["function"]
        subject, style = recipe["subject"], dict(recipe["style"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFileError(f"{path}: not a recipe of a figure ({error})") from None
    if version.split(".")[0] != RECIPE_VERSION.split(".")[0] or function not in DRAWN.values():
        raise RunFileError(
            f"{path}: recipe {version} of {function!r}, expected {RECIPE_VERSION} of one of "
            f"{', '.join(DRAWN.values())}; draw it with the version that wrote it"
        )
    return Drawing(
        function=function,
        subject=_restored(path, subject),
        style={name: _restored(path, value) for name, value in style.items()},
    )


def _restored(path: Path, value: Any) -> Any:
    """What the results and tables of a recipe name, in their places."""
    if isinstance(value, list):
        return [_restored(path, entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "result" in value:
        result = load_result(path.parent / f"{path.stem}{value['result']}.h5")
        found, wanted = result.digest, value.get("digest")
    else:
        result = read_csv(path.parent / f"{path.stem}{value.get('table')}.csv")
        found, wanted = hashlib.sha256(csv_of(result).encode()).hexdigest(), value.get("sha256")
    if found != wanted:
        raise RunFileError(f"{path}: the data beside it are not those it was drawn from")
    return result
