"""Locks between processes, by `flock`: the kernel releases them when a process ends, however.

A lock is a file that stays; who holds it is written in it, for error messages only.
"""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class BusyError(ValueError):
    """Another process is doing what was asked for."""


class Lock:
    """A lock that this process holds until `release` or its end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def try_lock(path: Path) -> Lock | None:
    """Lock a file, made where there is none; None while another process holds it.

    Raises:
        OSError: If the file can't be written, or its file system has no locks.
    """
    return _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock within the block, after waiting for whoever holds it now.

    Raises:
        OSError: If the file can't be written, or its file system has no locks.
    """
    lock = _lock(path, fcntl.LOCK_EX)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


def holder(path: Path) -> str:
    """Who holds a lock, or held it last: "process 1234", with the host if that is another."""
    pid, _, host = path.read_text().strip().partition(" ")
    if not pid:
        return "another process"
    return f"process {pid}" + (f" on {host}" if host != socket.gethostname() else "")


def _lock(path: Path, operation: int) -> Lock | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, operation)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        if error.errno in _NO_LOCKS:
            raise OSError(
                error.errno,
                "the file system has no locks between processes, so two could measure the same "
                "unnoticed; keep the run on a local disk, or have it mounted with flock",
                str(path),
            ) from None
        raise
    return Lock(descriptor)
