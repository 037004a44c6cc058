"""Several runs in one figure: (label, color index, what was measured) triples."""

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Items = Sequence[tuple[str, int, T]]


def is_items(value: Any) -> bool:
    """Whether a value is a list of (label, color, thing) triples."""
    return isinstance(value, list | tuple) and all(
        isinstance(item, list | tuple) and len(item) == 3 and isinstance(item[0], str)
        for item in value
    )


def items_of(value: Any, color: int = 0) -> list[tuple[str, int, Any]]:
    """The triples given, or one triple of a single thing named after its run.

    Example:
        >>> items_of([("SGD", 0, "profile")])
        [('SGD', 0, 'profile')]
        >>> items_of("profile", color=2)
        [('', 2, 'profile')]
    """
    if is_items(value) and len(value):
        return list(value)
    first = value[0] if isinstance(value, list | tuple) and len(value) else value
    facts = getattr(first, "facts", {})
    return [(str(facts.get("method") or facts.get("run_name") or ""), color, value)]
