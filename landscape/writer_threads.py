"""A thread that writes while training goes on: jobs in order, none dropped, bounded memory."""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable

_IDLE_SECONDS = 1.0


class WriterThread:
    """Does jobs one after another, in the order they were given.

    At most `limit` bytes wait at a time: whoever gives more waits, which is counted. One job may be
    larger than the limit; it then waits alone. After an error no further job is done, and the error
    is raised by whatever is called next. A program that ends without `stop` waits for its jobs.

    Args:
        limit: Bytes that may wait.
        idle: Called from the thread after each second without a job.

    Attributes:
        waited: Seconds that `put` waited for room.
        error: What stopped the thread.
    """

    def __init__(self, *, limit: int, idle: Callable[[], None]) -> None:
        self.waited = 0.0
        self.error: BaseException | None = None
        self._limit, self._idle = limit, idle
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()
        self._bytes, self._busy, self._closed = 0, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="landscape-writer", daemon=True)
        self._thread.start()
        # a thread that is stopped by the interpreter's end may hold HDF5's lock for ever
        atexit.register(self.stop)

    def put(self, job: Callable[[], None], size: int = 0) -> None:
        """Give a job that holds `size` bytes until it is done.

        Raises:
            BaseException: What stopped the thread, in this job or in an earlier one.
        """
        with self._changed:
            if self._is_full(size):
                began = time.monotonic()
                self._changed.wait_for(lambda: not self._is_full(size))
                self.waited += time.monotonic() - began
            self._raise()
            self._jobs.append((job, size))
            self._bytes += size
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until all that was given is done.

        Raises:
            BaseException: What stopped the thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs and not self._busy)
            self._raise()

    def stop(self) -> None:
        """End the thread after the jobs it was given; its error stays in `error`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.stop)

    def _is_full(self, size: int) -> bool:
        return self._bytes > 0 and self._bytes + size > self._limit and self.error is None

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            job, size = taken
            try:
                job()
            except BaseException as error:
                with self._changed:
                    self.error = error
                    self._jobs.clear()
                    self._bytes = size
            del job, taken  # with what they hold, before others are let in
            with self._changed:
                self._bytes -= size
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> tuple[Callable[[], None], int] | None:
        """Take the next job, or the idle one after a second without; None at the end."""
        with self._changed:
            woken = self._changed.wait_for(lambda: self._jobs or self._closed, _IDLE_SECONDS)
            if self._jobs:
                self._busy = True
                return self._jobs.popleft()
            if woken:
                return None
            self._busy = True
            return (self._idle if self.error is None else _nothing), 0


def _nothing() -> None:
    """Do nothing: after an error the file is left alone."""
