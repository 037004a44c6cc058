"""Small runs that were recorded by hand, and what stops and keeps a measurement."""

import copy

import numpy as np
import torch
from dense import Quadratic, conv_batchnorm, mean

from landscape import SAM, Objective
from landscape.modules import buffers_of, flatten, layout_of
from landscape.recorders import Recorder
from landscape.runs import Run
from landscape.writers import RunWriter


def record(path, model, data, loss_fn, updates, every=1, perturbation=None, **options):
    """Train on all data at once, one epoch per update, as the run of a user would be."""
    options = {"lr": 0.1} | options
    optimizer = torch.optim.SGD(model.parameters(), **options)
    if perturbation is not None:
        optimizer = SAM(model.parameters(), torch.optim.SGD, perturbation=perturbation, **options)
    inputs, targets = data
    model.train()

    def closure():
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        return loss

    with Recorder(path, model, optimizer, checkpoint_every=every) as recorder:
        for epoch in range(updates):
            optimizer.zero_grad()
            loss = optimizer.step(closure)
            recorder.step(loss, epoch=epoch)
    return Run(path)


def small_run(path):
    """A full-batch run of a small BatchNorm net with SGD, and the net as it began."""
    model, loss_fn, data = conv_batchnorm()
    options = {"updates": 6, "every": 2, "momentum": 0.5, "weight_decay": 0.01}
    return record(path, copy.deepcopy(model), data, loss_fn, **options), model, loss_fn, data


def written(path, models, **row):
    """A run of these models as checkpoints, by hand."""
    writer = RunWriter.create(
        path,
        config={"seed": 0},
        problem={"name": "x", "options": {}},
        layout=layout_of(models[0]),
        method="SGD",
    )
    for step, model in enumerate(models):
        buffers = {name: value.numpy() for name, value in buffers_of(model).items()}
        writer.save_checkpoint(step, flatten(model).numpy(), buffers)
        writer.append({"step": step, "lr": 0.1} | row)
    writer.finish()
    return Run(path)


def bowls(path, *diagonals):
    """A run through quadratics whose matrices are buffers of the checkpoints."""
    models = [Quadratic(np.diag(np.array(d, float))) for d in diagonals]
    objective = Objective(models[0], mean, (torch.zeros(2, 1), torch.zeros(2)))
    for model in models:
        model.theta.data += 0.25
    return written(path, models), objective


class Memory:
    """A savepoint that is always due."""

    def __init__(self):
        self.kept = None

    def load(self):
        return self.kept

    def due(self):
        return True

    def save(self, state):
        self.kept = {name: np.array(value) for name, value in state.items()}


def stopping(word):
    """A progress that is interrupted the first time it is told of something."""
    seen = []

    def progress(done, total, note):
        if word in note and not seen:
            seen.append(note)
            raise KeyboardInterrupt

    return progress
