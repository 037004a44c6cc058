"""The files that weights lie in: one, or the shards that a Hugging Face index lists."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from landscape.storage import RunFileError

_INDEX = ".safetensors.index.json"
_WHOLE = "model.safetensors"


def files_of_weights(path: Path) -> list[Path]:
    """The file itself; or an index of shards, and then the shards that it lists, by name.

    Args:
        path: A file of weights, an index of shards, or a folder that `save_pretrained` wrote, with
            one of them in it.

    Raises:
        RunFileError: If there is no such file, or the index can't be read or lists shards that are
            not there.
    """
    if path.is_dir():
        path = _inside(path)
    if not path.is_file():
        raise RunFileError(f"{path}: no such file")
    if not path.name.endswith(".index.json"):
        return [path]
    shards = [path.parent / name for name in sorted({*_read_index(path).values()})]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise RunFileError(
            f"{path}: {len(missing)} of its {len(shards)} shards must lie beside it and don't: "
            f"{', '.join(missing[:3])}; fetch them, or save the model again"
        )
    return [path, *shards]


def read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors of an index's shards, each where the index says.

    Raises:
        RunFileError: If a shard is missing or damaged, or has not just the tensors that the index
            says it has.
    """
    where = _read_index(index)
    state: dict[str, Tensor] = {}
    for shard in files_of_weights(index)[1:]:
        try:
            tensors = safetensors.torch.load_file(shard)
        except (safetensors.SafetensorError, OSError) as error:
            raise RunFileError(f"{shard}: damaged or not a safetensors file ({error})") from None
        _check_shard(index, shard.name, where, tensors)
        state |= tensors
    return state


def _inside(folder: Path) -> Path:
    """The weights in a folder."""
    found = [*sorted(folder.glob(f"*{_INDEX}")), *folder.glob(_WHOLE)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise RunFileError(
            f"{folder}: a folder of weights must hold one of *{_INDEX} and {_WHOLE}, got {names}; "
            "name a file"
        )
    return found[0]


def _read_index(path: Path) -> dict[str, str]:
    """The name of the shard that each tensor lies in."""
    try:
        where = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(shard) for shard in where.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RunFileError(
            f"{path}: damaged or not an index of shards, whose weight_map tells the file of each "
            "tensor"
        ) from None
    wrong = [n for n in sorted(names) if Path(n).name != n or not n.endswith(".safetensors")]
    if wrong or not names:
        raise RunFileError(
            f"{path}: shards must be safetensors files beside the index, got "
            f"{', '.join(wrong[:3]) or 'none'}; save the model with safetensors"
        )
    return where


def _check_shard(
    index: Path, shard: str, where: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a shard that has not just the tensors that the index says."""
    lacking = [name for name, place in where.items() if place == shard and name not in tensors]
    others = [name for name in tensors if where.get(name) != shard]
    if lacking:
        raise RunFileError(
            f"{index}: {shard} must hold {', '.join(lacking[:3])}, and does not; index and shards "
            "are of different models: save the model again"
        )
    if others:
        place = where.get(others[0])
        told = f"which the index has in {place}" if place else "which the index does not know"
        raise RunFileError(
            f"{index}: {shard} holds {others[0]}, {told}; index and shards are of different "
            "models: save the model again"
        )
