"""Processes of contenders, and the second environment that one of them needs."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LANDSCAPER = "landscaper==1.3.1"


class Contender:
    """A process that measures on request; its first answer says that it is ready.

    Args:
        name: One of those that the script knows.
        python: Interpreter to run it with.
        work: What `surface_nets.prepare` wrote.
        folder: Where its output goes, which is shown when it fails.
        threads: Of torch; that of the benchmark by default.
        script: What it runs.
        settings: Further words for the script.
    """

    def __init__(
        self,
        name: str,
        python: str,
        work: Path,
        folder: Path,
        threads: int | None = None,
        *,
        script: str = "peers.py",
        settings: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._log = (folder / f"{work.stem}-{name}.log").open("ab")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / script), name, str(work), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = Path(self._log.name).read_text(errors="replace")[-1500:]
            raise SystemExit(f"benchmark: {self.name} ended without an answer\n{tail}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def make_peers(folder: Path) -> tuple[Path | None, str]:
    """Return an interpreter that has Landscaper, or None and why not.

    Landscaper's dependency topopy wants numpy below 2 and we want 2, so it can't be installed
    beside us; its environment reads torch from ours.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    ready = folder / f".{LANDSCAPER}"
    if not ready.exists():
        ours = sysconfig.get_paths()["purelib"]
        theirs = next((folder / "lib").glob("python*")) / "site-packages" / "ours.pth"
        theirs.write_text(f"import site; site.addsitedir({ours!r})\n")
        command = [str(python), "-m", "pip", "install", "--quiet", LANDSCAPER]
        environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            return None, f"{LANDSCAPER} can't be installed: {last}"
        ready.touch()
    return python, f"{LANDSCAPER} in an environment of its own: its topopy needs numpy < 2"
