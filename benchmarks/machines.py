"""Where a benchmark was run, with which versions and by which command."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import torch
from contenders import ROOT

from landscape.provenance import processor_name


def machine(*packages: str) -> dict[str, Any]:
    """The processor and GPU, how busy it is, and the versions of these packages."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, check=False, capture_output=True, text=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "commit": commit.stdout.strip(),
        "command": " ".join(["python", *sys.argv]),
    }
