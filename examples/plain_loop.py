"""A training loop of your own that records a run, and what can be asked of it then.

python examples/plain_loop.py                   # trains the digits with SAM+AACE into runs/plain
landscape surface runs/plain --problem examples/plain_loop.py:make_problem --plane trajectory
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from landscape import SAM, Problem, Recorder, frozen_batchnorm, perturbations


def make_problem() -> Problem:
    """Return the model, its loss and its data; the command line calls this."""
    digits = load_digits()
    inputs = torch.from_numpy(digits.data).float() / 16
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return Problem(model, nn.CrossEntropyLoss(), train=(inputs, torch.from_numpy(digits.target)))


def main(path: str | Path = "runs/plain", epochs: int = 3) -> None:
    """Train in batches of 128, one row of the run for each."""
    problem = make_problem()
    model, loss_fn, (inputs, targets) = problem.model, problem.loss_fn, problem.train
    aace = perturbations.aace(rho=0.2)
    optimizer = SAM(model.parameters(), torch.optim.SGD, perturbation=aace, lr=0.1, momentum=0.9)
    steps = epochs * (len(inputs) // 128)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    with Recorder(path, model, optimizer, checkpoint_every=7, total_steps=steps) as recorder:
        for epoch in range(epochs):
            for batch in torch.randperm(len(inputs)).split(128)[: len(inputs) // 128]:
                logits = model(inputs[batch])
                loss = loss_fn(logits, targets[batch])
                aace.loss(logits, targets[batch]).backward()
                optimizer.first_step(zero_grad=True)
                with frozen_batchnorm(model):  # running statistics see the clean weights only
                    loss_fn(model(inputs[batch]), targets[batch]).backward()
                optimizer.second_step(zero_grad=True)
                recorder.step(loss, displacement=optimizer.displacement, epoch=epoch)
                scheduler.step()
    print(f"{recorder.steps} updates in {path}, last loss {loss:.3f}")


if __name__ == "__main__":
    main()
