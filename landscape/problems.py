"""Problems: a model, its loss and its data under one name."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from landscape.terminal import near


@dataclass(frozen=True)
class Problem:
    """What is trained and measured: built by a function, so that it can be built again.

    Args:
        model: The model, with its initial or trained parameters.
        loss_fn: `loss_fn(output, targets)`, the mean over the samples of a batch, in nats.
        train: Training data without augmentation: (inputs, targets), a DataLoader, or any
            re-iterable of such pairs.
        test: Test data of the same kind, where there are.
        metrics: Further quantities to measure by name: `metric(output, targets)`, the mean over
            the samples of a batch.
    """

    model: nn.Module
    loss_fn: Callable[[Any, Tensor], Tensor]
    train: Any
    test: Any = None
    metrics: Mapping[str, Callable[[Any, Tensor], Any]] = field(default_factory=dict)


def load_problem(
    spec: str,
    options: Mapping[str, Any],
    builtin: Mapping[str, Callable[..., Problem]],
) -> Problem:
    """Build a problem by name.

    Args:
        spec: A name in `builtin`; or, where `builtin` is empty, one's own function as
            "package.module:function" or "path/to/file.py:function". Modules are looked for in
            the current folder too.
        options: Keyword arguments of the function.
        builtin: Functions by short name. Given one, nothing else is imported: a name that stands
            in a run file must not run code.

    Raises:
        ValueError: If there is no such name, module, file, function or option.
        TypeError: If the function returns something else than a `Problem`.
    """
    place, _, function = spec.rpartition(":")
    if not place or builtin:
        return _build(_look_up(spec, builtin), spec, options)
    file = Path(place)
    is_file = file.suffix == ".py"
    with _importing_from(file.resolve().parent if is_file else Path.cwd()):
        module = _load_file(file) if is_file else _load_module(place)
        make = getattr(module, function, None)
        if not callable(make):
            known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            raise ValueError(f"{place} has no function {function!r}{near(function, known)}")
        return _build(make, spec, options)


def _look_up(spec: str, builtin: Mapping[str, Callable[..., Problem]]) -> Callable[..., Problem]:
    if spec in builtin:
        return builtin[spec]
    if not builtin:
        raise ValueError(
            f"a problem of one's own is module:function or file.py:function, got {spec!r}"
        )
    remedy = "; name code of your own with --problem" if ":" in spec else ""
    raise ValueError(
        f"problem must be one of {', '.join(builtin)}, got {spec!r}{near(spec, builtin)}{remedy}"
    )


def _build(make: Callable[..., Any], spec: str, options: Mapping[str, Any]) -> Problem:
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = list(signature.parameters)
        unknown = [name for name in options if name not in accepted]
        hint = near(unknown[0], accepted) if unknown else ""
        raise ValueError(
            f"{spec} takes options ({', '.join(accepted)}), got {dict(options)}: {error}{hint}"
        ) from None
    problem = make(**options)
    if not isinstance(problem, Problem):
        raise TypeError(
            f"{spec} must return a landscape.Problem(model, loss_fn, train), "
            f"got {type(problem).__name__}"
        )
    return problem


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the user's module imports
        raise ValueError(
            f"no module {error.name!r} here or among the installed ones; for a file, write "
            "path/to/file.py:function"
        ) from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {path}, looked for in {Path.cwd()}")
    name = f"landscape_problem_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module
