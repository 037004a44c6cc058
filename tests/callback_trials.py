"""Trainings by Lightning and Transformers with the callbacks of examples/, in their own process.

python callback_trials.py lightning FOLDER      # each training becomes a run FOLDER/<case>

Both libraries change torch and the handling of warnings for whoever imports them.
"""

import contextlib
import runpy
import sys
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from landscape import SAM, frozen_batchnorm
from training.vision import import_torchvision

EXAMPLES = Path(__file__).parent.parent / "examples"
UPDATES, BATCH = 6, 5
PARTS = {"accumulated": 2, "counted": 2}
"""Batches of an update, where they are not 1."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def rows(parts):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(UPDATES * parts * BATCH, 3, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def sharp(model):
    return SAM(model.parameters(), torch.optim.SGD, lr=0.5, momentum=0.9)


def by_lightning(folder):
    import lightning

    RecordRun = runpy.run_path(str(EXAMPLES / "lightning_callback.py"))["RecordRun"]

    class Plain(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = sgd(self)
            scheduler = {"scheduler": ExponentialLR(optimizer, 0.5), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    class Manual(Plain):
        automatic_optimization = False

        def training_step(self, batch, index):
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            loss = super().training_step(batch, index)
            self.manual_backward(loss)
            optimizer.first_step(zero_grad=True)
            with frozen_batchnorm(self):
                self.manual_backward(super().training_step(batch, index))
            optimizer.second_step()
            return loss

        def on_train_batch_end(self, outputs, batch, index):
            self.lr_schedulers().step()

        def configure_optimizers(self):
            optimizer = sharp(self)
            return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, 0.5)}

    class Broken(Plain):
        def training_step(self, batch, index):
            if index == 3:
                raise RuntimeError("out of luck")
            return super().training_step(batch, index)

    for case, module in (
        ("plain", Plain()),
        ("accumulated", Plain()),
        ("manual", Manual()),
        ("broken", Broken()),
    ):
        parts = PARTS.get(case, 1)
        data = torch.utils.data.TensorDataset(*rows(parts))
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=parts,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[RecordRun(folder / case, module.net, checkpoint_every=4)],
        )
        with contextlib.suppress(RuntimeError):
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=BATCH))
            trainer.save_checkpoint(folder / f"{case}.ckpt")


def by_transformers(folder):
    import transformers

    RecordRun = runpy.run_path(str(EXAMPLES / "transformers_callback.py"))["RecordRun"]

    class Classifier(nn.Module):
        """Returns its loss as the models of Transformers do."""

        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, inputs, labels=None):
            logits = self.net(inputs)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    class Counted(Classifier):
        """Divides by all items of an accumulated batch, as the newer of them do."""

        def forward(self, inputs, labels=None, num_items_in_batch=None, **kwargs):
            logits = self.net(inputs)
            total = nn.functional.cross_entropy(logits, labels, reduction="sum")
            return {"loss": total / num_items_in_batch, "logits": logits}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    cases = (("plain", Classifier()), ("accumulated", Classifier()), ("counted", Counted()))
    for case, model in cases:
        parts = PARTS.get(case, 1)
        optimizer = sgd(model)
        trainer = InOrder(
            model,
            transformers.TrainingArguments(
                output_dir=str(folder / f".{case}"),
                per_device_train_batch_size=BATCH,
                gradient_accumulation_steps=parts,
                max_grad_norm=0,
                num_train_epochs=1,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=[{"inputs": i, "labels": t} for i, t in zip(*rows(parts), strict=True)],
            optimizers=(optimizer, ExponentialLR(optimizer, 0.5)),
            callbacks=[RecordRun(folder / case, 4)],
        )
        trainer.train()
        trainer.save_model(str(folder / f"saved-{case}"))
        assert not model._forward_hooks


if __name__ == "__main__":
    import_torchvision()  # both import it; beside a CPU build of torch only this way
    {"lightning": by_lightning, "transformers": by_transformers}[sys.argv[1]](Path(sys.argv[2]))
