"""What a training loop calls to record its run: ours or the user's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from landscape.flat_vectors import FlatVectors, Vectors
from landscape.guarded_writing import GuardedWriting, reason_of
from landscape.modules import layout_of
from landscape.optimizer_settings import method_label, optimizer_settings, perturbation_label
from landscape.provenance import describe_environment
from landscape.ranks import present_ranks
from landscape.recording import BUDGET, SKETCH, Recording, choose_recording
from landscape.runs import Run
from landscape.step_measures import StepMeasures, effective_samples
from landscape.step_writing import StepWriting
from landscape.threads import threads
from landscape.writers import RunWriter


class Recorder:
    """Records a run: one row per update, the displacements, and checkpoints.

    ```
    with Recorder("runs/a", model, optimizer, config=config, checkpoint_every=50) as recorder:
        for inputs, targets in batches:
            ...                                  # one update
            recorder.step(loss, displacement=optimizer.displacement)
            scheduler.step()
        recorder.summary["test_accuracy"] = 0.93
    ```

    Checkpoint 0 is saved at once, then one after every `checkpoint_every` updates, and the last one
    always. Leaving the block ends the run as finished; an exception ends it as failed, with what
    was recorded so far, and goes on.

    `step` measures on the device and waits for nothing but room in a queue of 1 GiB; a thread
    writes. Rows appear about a second later; `flush` waits for them. A kill leaves whole rows.

    Of the ranks of one job each makes a recorder and calls it alike; the first one writes.

    Args:
        path: The run's folder; it must not exist.
        model: The model that is trained. Its trainable parameters now are theta.
        optimizer: Gives the learning rate and the order of sequences of tensors.
        checkpoint_every: Updates between checkpoints.
        problem: `{"name": ..., "options": {...}}`, what rebuilds model, loss and data.
        config: All settings of the run, `seed` among them; by default those of the optimizer.
        method: Label of the method; by default "SAM", "SAM+AACE", or the optimizer's class.
        total_steps: Planned updates, for progress and for `record="auto"`.
        record: Which full displacements are kept: "full", "every:K", "sketch" for none, or "auto"
            for all while the whole run fits `record_budget`, else every K-th. Scalars and a sketch
            are kept of every step. What was decided, and why, is in `recording` and in run.json.
        record_budget: Bytes that "auto" plans with; 20 GB by default.
        record_dtype: Kind of number of full displacements: "float32", or in half the bytes
            "float16" or "bfloat16", which round by up to 2⁻¹¹ and 2⁻⁸.
        sketch: Numbers of a sketch.
        sketch_seed: Seed of the sketches; those of equal seeds compare across runs.
        on_error: "stop": an error of writing (disk full, quota, read-only) is raised by the next
            call. "continue": training goes on unrecorded, with a warning, and the run says what
            it lacks.
        group: Identity of the settings without the seed; made from `config` by default.
        color: Index of the run's color, 0 to 7; by default that of its group or the first free.

    Attributes:
        summary: Numbers of the whole run (test_loss, test_accuracy), stored when it finishes, with
            `recording_waited`, the seconds that training waited for the disk.
        steps: Updates until now.
        recording: What is recorded of each step, and why.

    Raises:
        FileExistsError: The folder exists.
        ValueError: The optimizer holds parameters that are not the model's, or a setting is out of
            range.
    """

    def __init__(
        self,
        path: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        checkpoint_every: int,
        problem: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        method: str | None = None,
        total_steps: int | None = None,
        record: str = "auto",
        record_budget: int = BUDGET,
        record_dtype: str = "float32",
        sketch: int = SKETCH,
        sketch_seed: int = 0,
        on_error: Literal["stop", "continue"] = "stop",
        group: str | None = None,
        color: int | None = None,
    ) -> None:
        if isinstance(checkpoint_every, bool) or checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be 1 or more, got {checkpoint_every!r}")
        layout = layout_of(model)
        recording = choose_recording(
            record,
            size=layout.size,
            tensors=len(layout),
            total_steps=total_steps,
            checkpoint_every=checkpoint_every,
            budget=record_budget,
            dtype=record_dtype,
            sketch=sketch,
            sketch_seed=sketch_seed,
        )
        self._set_up(model, optimizer, recording, checkpoint_every, on_error)
        settings = optimizer_settings(optimizer)
        config = {**settings, "checkpoint_every": checkpoint_every} if config is None else config
        create = partial(
            RunWriter.create,
            path,
            config=config,
            problem={"name": None, "options": {}} if problem is None else problem,
            layout=layout,
            method=method_label(optimizer) if method is None else method,
            group=group,
            color=color,
            total_steps=total_steps,
            recording=recording.to_json() | {"checkpoint_every": checkpoint_every},
            provenance=describe_environment(self._theta.device)
            | {
                "seed": config.get("seed"),
                "ranks": present_ranks().world,
                "optimizer": settings,
                "perturbation": perturbation_label(optimizer),
            },
        )
        self._begin(create)
        try:
            self._checkpoint()
            self.flush()  # what can't be written is better known before training
        except BaseException as error:
            self.fail(reason_of(error))
            raise

    @classmethod
    def resume(
        cls,
        path: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        *,
        on_error: Literal["stop", "continue"] = "stop",
    ) -> "Recorder":
        """Go on with a run that was killed or failed, as if nothing had happened.

        Model and optimizer must be as they were when `state` was taken. What the run had recorded
        after that is forgotten and recorded again, in a new segment.

        Args:
            path: The run's folder.
            model: The model, with the weights of then.
            optimizer: The optimizer.
            state: What `state()` returned.
            on_error: As for a new recorder.

        Raises:
            ValueError: The run has finished, or doesn't reach the state's step; or the model is not
                that of the run.
            BusyError: Another process writes the run.
            RunFileError: There is no run, or it is damaged.
        """
        run = Run(path)
        if layout_of(model) != run.layout:
            raise ValueError(f"the model must have the layout of {path}, got another one")
        settings = dict(run.recording)
        every = settings.pop("checkpoint_every")
        self = cls.__new__(cls)
        self._set_up(model, optimizer, Recording(**settings), every, on_error)
        self.steps, self._saved, self._waited = (state[k] for k in ("steps", "saved", "waited"))
        self._measures.load(state["measures"])
        self._begin(partial(RunWriter.resume, path, self.steps))
        return self

    def _set_up(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recording: Recording,
        every: int,
        on_error: str,
    ) -> None:
        if on_error not in ("stop", "continue"):
            raise ValueError(f'on_error must be "stop" or "continue", got {on_error!r}')
        self.summary: dict[str, Any] = {}
        self.steps = 0
        self.recording = recording
        self._model, self._optimizer = model, optimizer
        self._every, self._go_on = every, on_error == "continue"
        self._saved, self._waited = -1, 0.0
        self._theta = FlatVectors(model, optimizer, [entry.name for entry in layout_of(model)])
        self._measures = StepMeasures(self._theta.size, self._theta.device)
        self._writing: GuardedWriting | None = None
        self._ended = False

    def _begin(self, make_writer: Callable[[], RunWriter]) -> None:
        """Open the run; where that fails and training is to go on, nothing is recorded.

        Of the ranks of a torchrun job the first one alone records.
        """
        if present_ranks().first:
            self._writing = GuardedWriting(
                make_writer, self._theta, self.recording, go_on=self._go_on
            )

    @threads(1)  # the other cores are the writer's; on a busy one its share would wait for its turn
    def step(
        self,
        loss: float | Tensor,
        *,
        accuracy: float | Tensor | None = None,
        displacement: Vectors | None = None,
        gradient: Vectors | None = None,
        perturbed_loss: float | Tensor | None = None,
        perturbed_gradient: Vectors | None = None,
        sample_weights: Tensor | None = None,
        epoch: float | None = None,
    ) -> None:
        """Record the update just made; call it after the optimizer and before the scheduler.

        Everything describes the weights w that the update started from, on its batch. Vectors are
        flat `[param]` in theta's order, or sequences with one tensor for each of the optimizer's
        parameters, as `SAM.displacement` or the `.grad` of each (None counts as zero). What is not
        given is NaN in the row; what is NaN stays NaN. What is given may be changed afterwards.

        Args:
            loss: Task loss at w, in nats.
            accuracy: Fraction of correct classes at w.
            displacement: What was added to the weights, sign included. None for SGD.
            gradient: Gradient of the task loss at w.
            perturbed_loss: Task loss at w + displacement.
            perturbed_gradient: Gradient of the task loss at w + displacement.
            sample_weights: Weight of each sample in the displacement `[sample]`, not negative, for
                the effective sample size.
            epoch: Epoch of the update; a fraction says how far into it.

        Raises:
            ValueError: A vector does not fit theta, or the run has ended.
            OSError: An earlier step could not be written, with `on_error="stop"`.
        """
        self._check_open()
        if not self.recording_goes_on:
            self._theta.take_part(displacement, gradient, perturbed_gradient)
            self.steps += 1
            self._checkpoint_if_due()
            return
        e = self._theta.flat(displacement, "displacement")
        g = self._theta.flat(gradient, "gradient", passing=True)
        h = self._theta.flat(perturbed_gradient, "perturbed_gradient", passing=True)
        lr = self._optimizer.param_groups[0]["lr"]
        effective = None if sample_weights is None else effective_samples(sample_weights)
        given = (loss, accuracy, lr, epoch, perturbed_loss, effective)
        products = self._measures.measure(self.steps, e, g, h)
        self.steps += 1
        self._guarded(lambda writing: writing.add(self.steps - 1, given, products, e))
        self._checkpoint_if_due()

    def _checkpoint_if_due(self) -> None:
        if self.steps % self._every == 0:
            self._checkpoint()

    @property
    def recording_goes_on(self) -> bool:
        """Whether steps are recorded still: the run has not ended, and its disk takes them."""
        return self._writing is not None and self._writing.goes_on and not self._ended

    def add_evaluation(self, test_loss: float, test_accuracy: float) -> None:
        """Record test loss [nats] and accuracy [fraction] at the weights as they are now."""
        self._check_open()
        row = {"step": self.steps, "test_loss": test_loss, "test_accuracy": test_accuracy}
        self._guarded(lambda writing: writing.put(partial(RunWriter.add_evaluation, **row)))

    def flush(self) -> None:
        """Wait until readers see all that was recorded.

        Raises:
            OSError: It could not be written, with `on_error="stop"`.
        """
        self._check_open()
        self._guarded(StepWriting.wait)

    def state(self) -> dict[str, Any]:
        """Return what `resume` needs to go on from here: numbers, and tensors on the CPU.

        Waits until all that was recorded until now is on file. Keep it with the weights, the
        optimizer and the random states of the same moment.

        Raises:
            ValueError: The run has ended, or training goes on unrecorded.
        """
        self.flush()
        if self._writing is None or not self._writing.goes_on:
            raise ValueError("training goes on unrecorded; there is no run to resume")
        return {
            "steps": self.steps,
            "saved": self._saved,
            "waited": self._waited + self._writing.waited,
            "measures": self._measures.state(),
        }

    def finish(self) -> None:
        """End the run well: save the last checkpoint and `summary`."""
        self._check_open()
        if self._saved != self.steps:
            self._checkpoint()
        self._guarded(lambda writing: writing.finish(self.summary, self._waited))
        self._ended = True

    def fail(self, reason: str) -> None:
        """End the run as failed, keeping what was recorded; the weights are not saved again."""
        self._check_open()
        self._ended = True
        if self._writing is not None:
            self._writing.fail(reason, self.steps)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ended:
            return
        if error is not None:
            self.fail(reason_of(error))
            return
        try:
            self.finish()
        except BaseException as problem:
            self.fail(reason_of(problem))
            raise

    def _check_open(self) -> None:
        if self._ended:
            raise ValueError("the run has ended and is frozen; record into a new folder")

    def _guarded(self, job: Callable[[StepWriting], None]) -> None:
        """Write, if anything is written; on an error go on unrecorded where that was asked for."""
        if self._writing is not None:
            self._writing.write(job, self.steps)

    def _checkpoint(self) -> None:
        if not self.recording_goes_on:
            self._theta.take_part()
        else:
            theta = self._theta.now()  # whatever becomes of the disk, as other ranks take part
            self._guarded(lambda writing: self._save(writing, theta))
        self._saved = self.steps

    def _save(self, writing: StepWriting, theta: Tensor) -> None:
        if self.steps > 0:
            window = self._measures.close_window()
            writing.close_window(max(self._saved, 0), self.steps, window)
        writing.save_checkpoint(self.steps, theta, self._model)
