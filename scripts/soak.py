"""Kill surfaces and training again and again: `make soak`. Minutes long.

What happened is printed and kept in benchmarks/soak.txt, each part with its date. `make soak
SOAK="--only training"` repeats one part and leaves the other as it is.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import h5py
import torch
from soak_surfaces import soak_surfaces
from soak_training import soak_training

from landscape import __version__

REPORT = Path(__file__).resolve().parent.parent / "benchmarks" / "soak.txt"
PARTS = {"surfaces": soak_surfaces, "training": soak_training}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS, help="repeat this part alone")
    args = parser.parse_args()
    for part in [args.only] if args.only else PARTS:
        head = f"{part}, {time.strftime('%Y-%m-%d', time.gmtime())}: {where()}"
        print(head, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            told = PARTS[part](Path(folder), args.kills, args.seed)
        print(told[-1], flush=True)
        keep(part, [head, f"one thread a process, seed {args.seed}", *told])
    return 0


def where() -> str:
    """What the numbers were measured with."""
    return (
        f"landscape {__version__}, torch {torch.__version__}, h5py {h5py.__version__}, Python "
        f"{platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    )


def keep(part: str, lines: list[str]) -> None:
    """Put a part of the report in the place of the last one of its kind."""
    text = REPORT.read_text() if REPORT.exists() else ""
    kept = {each.partition(",")[0]: each for each in text.strip().split("\n\n\n") if each}
    kept[part] = "\n".join(lines)
    REPORT.write_text("\n\n\n".join(kept[name] for name in PARTS if name in kept) + "\n")


if __name__ == "__main__":
    sys.exit(main())
