"""From what a step measured on the device to its row on file, without training waiting for it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.flat_vectors import FlatVectors, HostCopy, encoded
from landscape.modules import buffers_of
from landscape.recording import Recording
from landscape.sketches import Sketcher
from landscape.step_measures import PRODUCTS, agreement, cosines_of
from landscape.writer_threads import WriterThread
from landscape.writers import RunWriter

GIVEN = ("loss", "accuracy", "lr", "epoch", "perturbed_loss", "effective_samples")
"""What a training loop gives beside vectors, in the order of a step's numbers."""

_TOGETHER = 10  # steps whose numbers leave the device together
_SECONDS = 0.5  # or those of this time, so that slow runs can be watched
_PENDING_BYTES = 16 << 20  # or until their vectors take this much
_QUEUE_BYTES = 1 << 30  # may wait for the disk


@dataclass
class _Step:
    """What one step left to be written."""

    step: int
    numbers: Tensor
    """float64: `GIVEN`, then `PRODUCTS`."""
    sketch: Tensor | None = None
    tensor_norms: Tensor | None = None
    vector: HostCopy | None = None
    scale: Tensor | None = None


class StepWriting:
    """Sketches and encodes steps, and has a thread write them in order.

    Args:
        writer: Writes the run. From now on only the thread may call it, until `stop`.
        theta: Theta and its tensors.
        recording: What is kept of each step.
    """

    def __init__(self, writer: RunWriter, theta: FlatVectors, recording: Recording) -> None:
        self._writer, self._theta, self._recording = writer, theta, recording
        self._sketcher = Sketcher(theta.size, recording.sketch, recording.sketch_seed, theta.device)
        self._pending: list[_Step] = []
        self._bytes, self._handed = 0, time.monotonic()
        self._thread = WriterThread(limit=_QUEUE_BYTES, idle=writer.flush)

    @property
    def waited(self) -> float:
        """Seconds that training waited because the disk was slower."""
        return self._thread.waited

    @property
    def error(self) -> BaseException | None:
        """What stopped the thread."""
        return self._thread.error

    def add(
        self,
        step: int,
        given: tuple[float | Tensor | None, ...],
        products: Tensor,
        displacement: Tensor | None,
    ) -> None:
        """Take a step; it is written within a second or ten steps, whatever comes first.

        Args:
            step: The update.
            given: `GIVEN`, None where it was not.
            products: `PRODUCTS` [number], on the device.
            displacement: As [param], not changed afterwards; None if there was none.

        Raises:
            BaseException: What stopped the thread.
        """
        made = _Step(step, torch.cat([_on_device(given, products), products]))
        if displacement is not None:
            made.sketch = self._sketcher(displacement)
            made.tensor_norms = self._theta.norms_by_tensor(displacement)
            if self._recording.keeps(step):
                stored, made.scale = encoded(displacement, self._recording.dtype)
                made.vector = HostCopy(stored)
                self._bytes += made.vector.bytes
        self._pending.append(made)
        late = time.monotonic() - self._handed > _SECONDS
        if late or len(self._pending) >= _TOGETHER or self._bytes >= _PENDING_BYTES:
            self.hand_over()

    def hand_over(self) -> None:
        """Give the thread the steps that wait for others.

        Raises:
            BaseException: What stopped the thread.
        """
        steps, self._pending = self._pending, []
        size, self._bytes = self._bytes, 0
        self._handed = time.monotonic()
        if not steps:
            return
        numbers = HostCopy(torch.stack([made.numbers for made in steps]))
        sketches = _stacked([made.sketch for made in steps])
        norms = _stacked([made.tensor_norms for made in steps])
        scales = _stacked([made.scale for made in steps])
        size += sum(copy.bytes for copy in (numbers, sketches, norms) if copy is not None)
        moved = [made.step for made in steps if made.sketch is not None]
        whole = [(made.step, made.vector) for made in steps if made.vector is not None]
        known = [made.step for made in steps]
        self._thread.put(partial(self._write_rows, known, numbers, moved, sketches, norms))
        self._thread.put(partial(self._write_vectors, whole, scales), size)

    def put(self, job: Callable[[RunWriter], None], size: int = 0) -> None:
        """Have something else written, after all steps until now.

        Raises:
            BaseException: What stopped the thread.
        """
        self.hand_over()
        self._thread.put(partial(job, self._writer), size)

    def close_window(self, start: int, stop: int, numbers: Tensor) -> None:
        """Write how well the displacements of a window agree: its count and its sum's square."""
        copy = HostCopy(numbers)

        def write(writer: RunWriter) -> None:
            count, square = copy.numpy().tolist()
            if count:
                writer.add_window(start, stop, count, *agreement(count, square))

        self.put(write)

    def save_checkpoint(self, step: int, theta: Tensor, model: nn.Module) -> None:
        """Write theta [param] and all buffers of the model after `step` updates.

        Raises:
            BaseException: What stopped the thread.
        """
        copy = HostCopy(theta.float())
        buffers = {
            name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            for name, value in buffers_of(model).items()
        }
        self.put(lambda writer: writer.save_checkpoint(step, copy.numpy(), buffers), copy.bytes)

    def wait(self) -> None:
        """Wait until readers see all that was given.

        Raises:
            BaseException: What stopped the thread.
        """
        self.put(RunWriter.flush_all)
        self._thread.wait()

    def finish(self, summary: dict[str, Any], waited: float) -> None:
        """End the run well with its summary, and the thread.

        Args:
            summary: Numbers of the whole run.
            waited: Seconds that training had waited for the disk before it was taken up again.

        Raises:
            BaseException: What stopped the thread.
        """
        self.wait()
        told = summary | {"recording_waited": waited + self.waited}
        self.put(lambda writer: writer.finish(summary=told))
        if (error := self.stop()) is not None:
            raise error

    def stop(self) -> BaseException | None:
        """End the thread after what it was given; returns what stopped it before, if so."""
        try:
            self.hand_over()
        except BaseException as error:
            self._thread.error = self._thread.error or error
        self._thread.stop()
        return self._thread.error

    def _write_rows(
        self,
        steps: list[int],
        numbers: HostCopy,
        moved: list[int],
        sketches: HostCopy | None,
        norms: HostCopy | None,
    ) -> None:
        if sketches is not None and norms is not None:
            for step, sketch, lengths in zip(moved, sketches.numpy(), norms.numpy(), strict=True):
                self._writer.describe_displacement(step, sketch, lengths)
        for step, values in zip(steps, numbers.numpy().tolist(), strict=True):
            self._writer.append(_row(step, values))

    def _write_vectors(self, whole: list[tuple[int, HostCopy]], scales: HostCopy | None) -> None:
        factors = np.ones(len(whole)) if scales is None else scales.numpy()
        for (step, copy), factor in zip(whole, factors, strict=True):
            vector = copy.numpy()
            if vector.dtype == np.int16:
                vector = vector.view(np.uint16)
            self._writer.add_displacement(step, vector, float(factor))


def _on_device(given: tuple[float | Tensor | None, ...], like: Tensor) -> Tensor:
    """Return numbers where and as `like` is, without waiting for those that lie on a device."""
    host = [math.nan if g is None or isinstance(g, Tensor) else float(g) for g in given]
    numbers = torch.tensor(host, dtype=like.dtype)
    if like.is_cuda:
        numbers = numbers.pin_memory()
    numbers = numbers.to(like.device, non_blocking=True)
    for place, value in enumerate(given):
        if isinstance(value, Tensor):
            numbers[place] = value.detach().reshape(())
    return numbers


def _stacked(tensors: list[Tensor | None]) -> HostCopy | None:
    """Return one copy of those that are there."""
    there = [tensor for tensor in tensors if tensor is not None]
    return HostCopy(torch.stack(there)) if there else None


def _row(step: int, values: list[float]) -> dict[str, float]:
    given = dict(zip(GIVEN, values, strict=False))
    rise = given.pop("perturbed_loss") - given["loss"]
    products: dict[str, float] = dict(zip(PRODUCTS, values[len(GIVEN) :], strict=True))
    return {"step": step, **given, "loss_rise": rise, **cosines_of(products)}
