"""The command `compare`: two groups of runs, what is said of them, and where it is kept."""

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from landscape.parsers import Parser
from landscape.terminal import table


def compare(parser: Parser, argv: list[str], companion: Any) -> int:
    """Parse, compare, store and report; its exit code."""
    del companion
    about = "folder of runs, pattern, FOLDER:METHOD, or several of these by comma"
    parser.add_argument("a", help=f"the runs of A: {about}")
    parser.add_argument("b", help="the runs of B; differences are A - B")
    parser.add_argument(
        "--scalar", nargs="+", help="what is compared (default: the numbers of the summaries)"
    )
    parser.add_argument(
        "--margin", nargs="+", help="NAME=0.01: differences within it count as none"
    )
    parser.add_argument(
        "--unpaired", action="store_true", help="do not pair by seed: Welch's interval of all runs"
    )
    parser.add_argument("--list", action="store_true", help="list the scalars of both groups")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    args = parser.read(argv)
    start = time.monotonic()
    from landscape.groups import find_group

    a, b = find_group(args.a), find_group(args.b)
    if args["list"]:
        return _list(a.runs, b.runs, as_json=args.json)
    from landscape.comparisons import compare_groups, keep_joint

    found = compare_groups(
        a, b, args.scalar or (), margins=_margins(args.margin or ()), paired=not args.unpaired
    )
    folder = a.runs[0].path.parent / "joint"
    kept = keep_joint(found, folder, _provenance(time.monotonic() - start))
    print(_as_json(kept) if args.json else _in_words(kept))
    return 0


def _margins(texts: Sequence[str]) -> dict[str, float]:
    margins = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            margins[name] = math.nan
        if not name or math.isnan(margins[name]):
            raise ValueError(f"--margin must be NAME=NUMBER, as test_loss=0.01, got {text!r}")
    return margins


def _list(a: Sequence[Any], b: Sequence[Any], *, as_json: bool) -> int:
    """Say of every scalar how many runs of each group have it."""
    from landscape.scalars import list_scalars

    names = [[list_scalars(run) for run in runs] for runs in (a, b)]
    every = dict.fromkeys(name for group in names for run in group for name in run)
    counts = {name: [sum(name in run for run in group) for group in names] for name in every}
    if as_json:
        print(json.dumps({name: {"a": n[0], "b": n[1]} for name, n in counts.items()}, indent=1))
        return 0
    rows = [[name, f"{x} of {len(a)}", f"{y} of {len(b)}"] for name, (x, y) in counts.items()]
    print(table(["scalar", "runs of A", "runs of B"], rows))
    return 0


def _in_words(kept: Any) -> str:
    from landscape.reports import report

    return report(kept, " and ".join(kept.result.labels))


def _as_json(kept: Any) -> str:
    from landscape.reports import headline
    from landscape.storage import plain

    told = {**headline(kept.result), "kind": kept.result.kind, "facts": kept.result.facts}
    told |= {"path": str(kept.path), "found": kept.found, "digest": kept.result.digest}
    return json.dumps(plain(told), indent=1)


def _provenance(seconds: float) -> dict[str, Any]:
    import numpy as np

    from landscape import __version__
    from landscape.writers import utc_now

    return {
        "created": utc_now(),
        "seconds": round(seconds, 3),
        "command": list(sys.argv),
        "versions": {"landscape": __version__, "numpy": np.__version__},
    }
