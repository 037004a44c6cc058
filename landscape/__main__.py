"""The command line: the only file that reaches `training` and `app`, by name."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from landscape.terminal import near


class Command(NamedTuple):
    """A line of `landscape --help`."""

    about: str
    example: str


COMMANDS = {
    "demo": Command("train, measure, draw and serve three small nets", "landscape demo --no-serve"),
    "train": Command(
        "train a preset and record the run", "landscape train --preset fashion-aace --out runs/a"
    ),
    "data": Command("list the data sets, or fetch one", "landscape data cifar10"),
    "profile": Command("loss along a direction", "landscape profile runs/a --repeats 10"),
    "surface": Command(
        "loss on a plane", "landscape surface runs/a --plane trajectory --points 21"
    ),
    "barrier": Command(
        "loss on the lines between minima", "landscape barrier runs/a runs/b runs/c --test"
    ),
    "curve": Command(
        "a path of low loss between two minima", "landscape curve runs/a runs/b --updates 500"
    ),
    "spectrum": Command(
        "Hessian eigenvalues, their density and trace", "landscape spectrum runs/a --k 10"
    ),
    "sharpness": Command(
        "a table of sharpness measures, audited", "landscape sharpness runs/a --rho 0.05"
    ),
    "stability": Command(
        "the multiplier of the run's own update", "landscape stability runs/a --checkpoint all"
    ),
    "curvature": Command(
        "eigenvalues, trace and alignments through training", "landscape curvature runs/a --k 3"
    ),
    "consistency": Command(
        "how well perturbation directions agree", "landscape consistency runs/a --checkpoint all"
    ),
    "rise": Command(
        "whether a perturbation climbs, on which data, and how sharply",
        "landscape rise runs/a --perturbations sam,aace",
    ),
    "offset": Command(
        "where the loss has its minimum along the mean perturbation", "landscape offset runs/a"
    ),
    "directions": Command(
        "how well recorded directions agree over a run", "landscape directions runs/a --window 100"
    ),
    "trajectory": Command("the path of training on a plane", "landscape trajectory runs/a"),
    "claim": Command(
        "statements about AACE, held against runs", "landscape claim runs --out report"
    ),
    "compare": Command(
        "two groups of runs, paired by seed", "landscape compare 'runs/sam-*' 'runs/aace-*'"
    ),
    "figure": Command(
        "a paper figure of a measured result",
        "landscape figure runs/a surface --venue icml --format pdf",
    ),
    "import": Command(
        "old checkpoints as a run, surfaces of other tools as figures",
        "landscape import epoch-*.pt --problem net.py:make_problem --out runs/old",
    ),
    "app": Command("look around in the dashboard", "landscape app runs"),
    "runs": Command("list the runs in a folder", "landscape runs runs"),
    "check": Command("self test on problems with known answers", "landscape check"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for a mistake of the user's, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        from landscape import __version__

        print(f"landscape {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        return fail(f"no command {name!r}{near(name, COMMANDS)}; `landscape --help` lists them")
    # Threads that wait by spinning without end starve each other on a machine that others use;
    # this many turns cost nothing on an idle one. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    from landscape import commands

    try:
        code = commands.run(name, *COMMANDS[name], argv[1:], companion)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads, as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get("LANDSCAPE_TRACEBACK"):
            raise
        where = " (LANDSCAPE_TRACEBACK=1 shows where)" if isinstance(error, TypeError) else ""
        return fail(f"{error}{where}")


def fail(message: str) -> int:
    """Say what was wrong on standard error; the exit code of a user's mistake."""
    rank = os.environ.get("RANK", "0")  # each rank of torchrun says it
    who = "landscape" if rank == "0" else f"landscape, rank {rank}"
    print(f"{who}: {message}", file=sys.stderr)
    return 2


def _overview() -> str:
    lines = ["Loss landscapes, Hessian spectra and perturbation-direction consistency.", ""]
    lines += ["usage: landscape COMMAND [options]", ""]
    lines += [f"  {name:12} {command.about}" for name, command in COMMANDS.items()]
    lines += ["", "`landscape COMMAND --help` shows options and an example, e.g."]
    lines += [f"  {COMMANDS['surface'].example}"]
    return "\n".join(lines)


def companion(name: str) -> ModuleType:
    """Import `training.loop` or `app.main`: renamed in a wheel, beside us in a checkout.

    A plain `app` or `training` is taken only from the folder that holds `landscape/`: in a
    folder with a package of that name, Python would import the user's.
    """
    try:
        return importlib.import_module(f"landscape_{name}")
    except ModuleNotFoundError as error:
        if error.name != f"landscape_{name.partition('.')[0]}":
            raise
    root = Path(__file__).resolve().parent.parent
    package = name.partition(".")[0]
    if not (root / package / "__init__.py").is_file():
        raise ImportError(f"this installation lacks {package!r}; install aace-landscape again")
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(root))


if __name__ == "__main__":
    sys.exit(main())
