"""Results in files: one immutable HDF5 file each, named by the question it answers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape.results import KINDS, Result, arrays_of, scalars_of
from landscape.storage import (
    RunFileError,
    digest_of,
    open_strict,
    read_arrays,
    require_array,
    short_hash,
    write_arrays,
)

SCHEMA_VERSION = "1.2"


def result_key(
    kind: str, options: dict[str, Any], *, run: str, checkpoint: int, data_digest: str
) -> str:
    """The twelve characters that name a result: the same question has the same key."""
    return short_hash([kind, options, run, checkpoint, data_digest])


def save_result(result: Result, path: str | Path, *, replace: bool = False) -> Path:
    """Write a result to one HDF5 file, whole or not at all.

    Raises:
        FileExistsError: If the file is there already and `replace` was not asked for.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists and results are never overwritten; choose another")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "kind": result.kind,
        "schema_version": SCHEMA_VERSION,
        "scalars": scalars_of(result),
        "facts": result.facts,
        "options": result.options,
        "provenance": result.provenance,
        "digest": result.digest,
    }
    write_arrays(path, header, arrays_of(result))
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """Read what a result file says of itself, without its arrays.

    Raises:
        RunFileError: If the file is not a result, or of a schema this version can't read.
    """
    with open_strict(path) as file:
        return _header(Path(path), file)


def _header(path: Path, file: h5py.File) -> dict[str, Any]:
    if "header" not in file:
        raise RunFileError(f"{path}: not a result file: it has no header")
    text = require_array(file, "header", np.uint8, None)[()]
    try:
        header = json.loads(bytes(text).decode())
        schema, kind = str(header["schema_version"]), str(header["kind"])
        for name in ("scalars", "facts", "options", "provenance"):
            if not isinstance(header[name], dict):
                raise TypeError(f"{name} is {header[name]!r}")
        str(header["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFileError(f"{path}: the header is damaged ({error!r})") from None
    if schema.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise RunFileError(
            f"{path}: schema {schema}, expected {SCHEMA_VERSION}; "
            "read it with the version of the toolkit that wrote it"
        )
    if kind not in KINDS:
        raise RunFileError(f"{path}: unknown kind {kind!r}, expected one of {[*KINDS]}")
    return header


def load_result(path: str | Path) -> Result:
    """Read a result file.

    What a later minor version added is checked with the rest, then left out.

    Raises:
        RunFileError: If the file is missing, damaged, or not a result.
    """
    path = Path(path)
    with open_strict(path) as file:
        header = _header(path, file)
        arrays = read_arrays(file)
    del arrays["header"]
    common = {name: header[name] for name in ("facts", "options", "provenance")}
    value = [header[name] for name in ("kind", "scalars", "facts", "options")]
    if digest_of(value, arrays) != header["digest"]:
        raise RunFileError(f"{path}: arrays and header don't belong together (digest differs)")
    cls = KINDS[header["kind"]]
    known = {item.name for item in dataclasses.fields(cls)} - set(common)
    values = {name: value for name, value in (header["scalars"] | arrays).items() if name in known}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    try:
        return cls(**values, **common)
    except (TypeError, ValueError) as error:
        raise RunFileError(f"{path}: not a whole {header['kind']} ({error})") from None
