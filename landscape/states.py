"""Files of weights: read without running code, taken out of what is around them, put into a model.

Known are safetensors files, whole or in the shards that an index lists, and what `torch.save` wrote
of a state dict: bare, inside a checkpoint ({"model": ...}, {"state_dict": ...}), under the names
that a module around the model gives.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from landscape.storage import RunFileError
from landscape.weight_files import files_of_weights, read_shards

State = dict[str, Tensor]

_WRAPPINGS = ("state_dict", "model_state_dict", "model")


def load_state(model: nn.Module, path: str | Path) -> list[str]:
    """Put stored weights into the model: all of them, or none and an error.

    Args:
        model: The model; changed in place. A tied tensor may stand in the file under any of its
            names.
        path: A .safetensors file; the index of one in shards, or the folder of either; or a file
            that `torch.save` wrote. Nothing is unpickled beyond tensors and plain values.

    Returns:
        What was done to the file's tensors to fit the model, in words.

    Raises:
        RunFileError: If the file or a shard of it is missing or damaged, or holds no state dict.
        ValueError: If names or shapes are not exactly those of the model.
    """
    path = Path(path)
    state, wrapping = _unwrap(path, _read(path))
    notes = [f"taken from {wrapping!r} in it"] if wrapping else []
    state, prefix = _without_prefix(model, state)
    notes += [f'"{prefix}" taken off the names'] if prefix else []
    state = _with_tied(model, state)
    state, added = _with_counts(model, state)
    notes += [added] if added else []
    _check_fit(path, model, state)
    notes += _of_values(model, state)
    model.load_state_dict(state)
    return notes


def _read(path: Path) -> Any:
    path, *shards = files_of_weights(path)
    if shards:
        return read_shards(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError) as error:
        raise RunFileError(f"{path}: damaged or not a safetensors file ({error})") from None
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        raise RunFileError(
            f"{path}: not weights that can be read without running code ({_reason(path, error)}); "
            "save model.state_dict() with torch.save or safetensors"
        ) from None


def _reason(path: Path, error: Exception) -> str:
    """What stands in the way: the classes that a pickle asks for, where they can be told."""
    try:
        wanted = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a checkpoint, or an old one
        wanted = []
    return f"it needs {', '.join(sorted(wanted)[:3])}" if wanted else type(error).__name__


def _unwrap(path: Path, held: Any) -> tuple[State, str]:
    """The state dict in what a file holds, and the name it stood under; "" for a bare one."""
    if _is_state(held):
        return held, ""
    items = held.items() if isinstance(held, Mapping) else ()
    inside = {str(name): value for name, value in items if _is_state(value)}
    name = next((name for name in (*_WRAPPINGS, *inside) if name in inside), "")
    if not name or (len(inside) > 1 and name not in _WRAPPINGS):
        found = f", with state dicts {', '.join(map(repr, inside))}" if inside else ""
        raise RunFileError(
            f"{path}: must hold a state dict of tensors, bare or as one of "
            f"{', '.join(map(repr, _WRAPPINGS))}, got a {type(held).__name__}{found}; save "
            "model.state_dict() alone"
        )
    return inside[name], name


def _is_state(held: Any) -> bool:
    return (
        isinstance(held, Mapping)
        and bool(held)
        and all(isinstance(name, str) and isinstance(t, Tensor) for name, t in held.items())
    )


def _without_prefix(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[State, str]:
    """The state under the model's own names, and what was taken off those of the file.

    A module around the model puts its word before all names: "module." (Distributed)DataParallel,
    "_orig_mod." `torch.compile`, the attribute's name a LightningModule. Words go only as long as
    no name is the model's.
    """
    own, taken, found = model.state_dict().keys(), "", dict(state)
    while not own & found.keys():
        heads = {name.partition(".")[0] for name in found}
        if len(heads) > 1 or not all("." in name for name in found):
            return dict(state), ""
        taken += f"{heads.pop()}."
        found = {name.partition(".")[2]: value for name, value in found.items()}
    return found, taken


def _with_tied(model: nn.Module, state: State) -> State:
    """The state with tied tensors under each of their names, where the file has but one."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    whole = dict(state)
    for group in names.values():
        stored = next((state[name] for name in group if name in state), None)
        if stored is not None:
            whole |= {name: stored for name in group if name not in state}
    return whole


def _with_counts(model: nn.Module, state: State) -> tuple[State, str]:
    """The state with the counts of batches that BatchNorm did not store before torch 0.4.1."""
    counts = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.rpartition(".")[2] == "num_batches_tracked" and name not in state
    }
    return state | counts, f"{len(counts)} counts of batches are the model's own" if counts else ""


def _check_fit(path: Path, model: nn.Module, state: State) -> None:
    own = model.state_dict()
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": sorted(name for name in state if name not in own),
        "misshaped": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if any(faults.values()):
        listed = "; ".join(
            f"{kind}: {', '.join(names[:4])}{f' and {len(names) - 4} more' * (len(names) > 4)}"
            for kind, names in faults.items()
            if names
        )
        raise ValueError(
            f"{path} must hold exactly the weights of {type(model).__name__}, got {listed}; "
            "make the model that it was saved from"
        )


def _of_values(model: nn.Module, state: State) -> list[str]:
    """What to know of the numbers: rounded to the model's type, or not finite."""
    own, notes = model.state_dict(), []
    floating = {name: t for name, t in state.items() if t.is_floating_point()}
    rounded = [n for n, t in floating.items() if torch.finfo(t.dtype).eps < _eps(own[n])]
    if rounded:
        kinds = f"{state[rounded[0]].dtype} to {own[rounded[0]].dtype}".replace("torch.", "")
        notes.append(f"{len(rounded)} tensors rounded from {kinds}")
    broken = [name for name, tensor in floating.items() if not tensor.isfinite().all()]
    if broken:
        notes.append(f"not finite: {', '.join(broken[:3])}{', ...' * (len(broken) > 3)}")
    return notes


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 1.0
