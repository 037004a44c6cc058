"""Having a run written for as long as its disk takes it, and what becomes of the training then."""

import warnings
from collections.abc import Callable
from contextlib import suppress

from landscape.flat_vectors import FlatVectors
from landscape.recording import Recording
from landscape.step_writing import StepWriting
from landscape.writers import RunWriter


class GuardedWriting:
    """Has a run written; after an error of the disk training stops, or goes on unrecorded.

    Args:
        make_writer: Opens the run.
        theta: Theta and its tensors.
        recording: What is kept of each step.
        go_on: Whether training goes on unrecorded, with a warning in place of an error.

    Raises:
        FileExistsError: The run's folder exists.
        OSError: The run can't be opened, and training is not to go on.
    """

    def __init__(
        self,
        make_writer: Callable[[], RunWriter],
        theta: FlatVectors,
        recording: Recording,
        *,
        go_on: bool,
    ) -> None:
        self._go_on = go_on
        self._writing: StepWriting | None = None
        try:
            self._writer = make_writer()
        except FileExistsError:
            raise
        except OSError as error:
            if not go_on:
                raise
            _say_unrecorded(error, 0)
            return
        self._writing = StepWriting(self._writer, theta, recording)

    @property
    def goes_on(self) -> bool:
        """Whether what is given is written still."""
        return self._writing is not None

    @property
    def waited(self) -> float:
        """Seconds that training waited because the disk was slower."""
        return self._writing.waited if self._writing is not None else 0.0

    def write(self, job: Callable[[StepWriting], None], steps: int) -> None:
        """Have something written, if anything is.

        Args:
            job: Gives it to the writing.
            steps: Updates made, to be told if it can't be written.

        Raises:
            OSError: What was given could not be written, and training is not to go on.
        """
        if self._writing is None:
            return
        try:
            job(self._writing)
        except OSError as error:
            if not self._go_on or error is not self._writing.error:
                raise
            _say_unrecorded(error, steps)
            with suppress(OSError):  # then the run reads as died
                self.fail(f"training went on unrecorded: {reason_of(error)}", steps)

    def fail(self, reason: str, steps: int) -> None:
        """End the run as failed after `steps` updates, if it has not ended; nothing follows."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        error = writing.stop()
        if error is not None and reason_of(error) not in reason:
            reason = f"{reason}; recording had stopped: {reason_of(error)}"
        self._writer.fail(reason, steps=steps)


def reason_of(error: BaseException) -> str:
    """An error's class and words."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _say_unrecorded(error: BaseException, step: int) -> None:
    warnings.warn(
        f"training goes on unrecorded from about step {step}: {error}", RuntimeWarning, stacklevel=5
    )
