"""Record a training by the Trainer of Transformers as a run; copy what you need.

trainer = Trainer(model, args, train_dataset=data, callbacks=[RecordRun("runs/a", 50)])

The model must return its loss, as all models of Transformers do when they are given labels. The
Trainer tells callbacks of no exception: a training that raises leaves a run that reads as died
once its process has ended.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from landscape import Recorder


class RecordRun(TrainerCallback):
    """Records each update: loss, learning rate, and a checkpoint every so many."""

    def __init__(self, path: str | Path, checkpoint_every: int, **options: Any):
        self.path, self.options = path, {"checkpoint_every": checkpoint_every, **options}
        self.losses: list[Any] = []

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, optimizer: Any, **_: Any
    ) -> None:
        """Begin the run; of several ranks the first one writes."""
        bare = getattr(optimizer, "optimizer", optimizer)  # out of Accelerate's wrapper
        options = {"total_steps": state.max_steps, **self.options}
        self.recorder = Recorder(self.path, model, bare, **options)
        self.hook = model.register_forward_hook(self.note, with_kwargs=True)

    def note(self, model: Any, args: Any, inputs: dict[str, Any], output: Any) -> None:
        """Keep the loss of each part of an accumulated batch."""
        if model.training and torch.is_grad_enabled():
            self.losses.append(output["loss"].detach())
            self.summed = inputs.get("num_items_in_batch") is not None  # divided by all items

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record an update, right after it and before the scheduler."""
        total = torch.stack(self.losses).sum()
        self.recorder.step(total if self.summed else total / len(self.losses))
        self.losses = []

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run well, with the last checkpoint."""
        self.hook.remove()
        self.recorder.finish()
