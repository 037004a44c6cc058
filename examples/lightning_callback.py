"""Record a Lightning training as a run. The callback is the whole of it; copy what you need.

trainer = lightning.Trainer(callbacks=[RecordRun("runs/a", module.net, checkpoint_every=50)])

The run holds `model`, the network inside the LightningModule, so that `--problem` can make it
alone. In manual optimization, as SAM needs it, `training_step` returns the task loss at w, and
schedulers step after the batch.
"""

from pathlib import Path
from typing import Any

import lightning
from torch import Tensor, nn

from landscape import Recorder


class RecordRun(lightning.Callback):
    """Records each update of the first optimizer: loss, learning rate, displacement of a SAM."""

    def __init__(self, path: str | Path, model: nn.Module, checkpoint_every: int, **options: Any):
        self.path, self.model, self.options = path, model, options
        self.options["checkpoint_every"] = checkpoint_every
        self.loss: float | Tensor = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run; of several ranks the first one writes."""
        optimizer = trainer.optimizers[0]
        self.recorder = Recorder(self.path, self.model, optimizer, **self.options)
        if pl_module.automatic_optimization:  # right after the update, before the schedulers
            self.hook = optimizer.register_step_post_hook(lambda *_: self.record(self.loss))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Add up the parts of an accumulated batch, which Lightning has divided by their number."""
        self.loss = self.loss + loss.detach()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record an update of manual optimization."""
        if not pl_module.automatic_optimization:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            self.record(loss, getattr(trainer.optimizers[0], "displacement", None))

    def record(self, loss: float | Tensor, displacement: Any = None) -> None:
        """Write the row of one update."""
        self.recorder.step(loss, displacement=displacement)
        self.loss = 0.0

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run well, with the last checkpoint."""
        self.recorder.finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as failed; it keeps what was recorded."""
        if hasattr(self, "recorder"):  # it had begun
            self.recorder.fail(repr(exception))
