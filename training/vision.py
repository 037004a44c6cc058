"""The one door to torchvision, guarded against a build whose C++ operators are missing."""

from importlib import import_module
from types import ModuleType

import torch

# Operators that torchvision registers fake kernels for while it is imported. They stay without an
# implementation here: calling one still raises, which is right, as nothing of ours calls them.
_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_fragments: list[torch.library.Library] = []  # a fragment's definitions live as long as it does


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """Import torchvision, or one of its modules, also beside a torch of another build.

    The registry's torchvision beside a CPU torch can't load its operators and fails at import with
    `RuntimeError: operator torchvision::nms does not exist`. Data sets, transforms and models don't
    need them: they are declared, and the import is tried again. Where the import works, this is a
    plain import.

    Args:
        name: The module, as "torchvision.datasets".
    """
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _MISSING:
        fragment.define(schema)
    _fragments.append(fragment)
    return import_module(name)
