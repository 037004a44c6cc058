"""The command `claim`: statements about AACE held against runs, and the report of it."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from landscape.parsers import Parser
from landscape.terminal import ProgressBar


def claim(parser: Parser, argv: list[str], companion: Any) -> int:
    """Parse, measure what is missing, judge, write the report; its exit code."""
    from landscape.claim_options import ClaimOptions

    parser.add_argument(
        "runs",
        nargs="+",
        help="runs of SAM, of SAM+AACE and of other methods, several seeds each: runs, folders of "
        "runs, patterns, FOLDER:METHOD",
    )
    parser.add_options(ClaimOptions)
    parser.add_argument(
        "--problem", help="module:function or file.py:function that makes one's own Problem"
    )
    parser.add_argument("--out", help="folder of the report (default: beside the result)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; a GPU where there is one")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    args = parser.read(argv)
    options = parser.options(ClaimOptions, args)
    from landscape.evidence import group_runs

    groups = group_runs(args.runs)
    return _judge(args, groups, options, companion)


def _judge(args: Any, groups: Any, options: Any, companion: Any) -> int:
    start = time.monotonic()
    from landscape.analysis_commands import device_of, problem_of
    from landscape.claim_analyses import gather_evidence
    from landscape.claim_report import make_folder, write_report
    from landscape.claims import measure_claim
    from landscape.comparisons import keep_joint

    if args.out:
        make_folder(Path(args.out))  # before an hour of measuring
    problems: dict[str, Any] = {}

    def problem(run: Any) -> Any:
        key = json.dumps([run.problem, str(args.problem)], sort_keys=True, default=str)
        if key not in problems:
            problems[key] = problem_of(run, args, companion)
        return problems[key]

    with ProgressBar("claim", quiet=args.json) as progress:
        evidence = gather_evidence(
            groups, problem, options, device=device_of(args.device), progress=progress
        )
    found = measure_claim(evidence, seed=options.seed)
    first = next(iter(next(iter(groups.values())).values()))
    kept = keep_joint(found, first.path.parent / "joint", _provenance(start))
    folder = Path(args.out) if args.out else kept.path.with_suffix("")
    written = write_report(kept.result, evidence, folder)
    print(_as_json(kept, written) if args.json else _in_words(kept, written))
    return 0


def _in_words(kept: Any, written: list[Path]) -> str:
    from landscape.reports import report

    methods = " and ".join(kept.result.facts["methods"])
    return "\n".join([report(kept, methods), *(f"  {path}" for path in written)])


def _as_json(kept: Any, written: list[Path]) -> str:
    from landscape.reports import headline
    from landscape.storage import plain

    told = {**headline(kept.result), "kind": kept.result.kind, "facts": kept.result.facts}
    told |= {"path": str(kept.path), "found": kept.found, "digest": kept.result.digest}
    return json.dumps(plain(told | {"report": [str(path) for path in written]}), indent=1)


def _provenance(start: float) -> dict[str, Any]:
    from landscape.provenance import describe_environment
    from landscape.writers import utc_now

    return {
        **describe_environment(None),
        "created": utc_now(),
        "seconds": round(time.monotonic() - start, 3),
        "command": list(sys.argv),
    }
