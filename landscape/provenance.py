"""Where numbers come from: what has to be known to make them again."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import landscape
from landscape.writers import utc_now

CPU_INFO = Path("/proc/cpuinfo")


def describe_environment(device: torch.device | str | None = None) -> dict[str, Any]:
    """Return where numbers come from: versions, device, threads, command, host, commit, time."""
    device = torch.device("cpu" if device is None else device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "landscape": landscape.__version__,
        },
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "command": list(sys.argv),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "git": _git_state(),
        "time": utc_now(),
    }


def processor_name() -> str:
    """Return the processor's model as Linux tells it, elsewhere what Python knows of it."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the current folder, None where there is no repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {
            "commit": commit,
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()
