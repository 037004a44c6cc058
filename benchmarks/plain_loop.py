"""What `make bench-training` measures against: SAM+AACE as people's scripts have it.

A DataLoader whose processes change images one by one, an eager net, a SAM that goes from tensor to
tensor, and numbers read from the device in every update. Our own code, in the form of such scripts.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from training.vision import import_torchvision

transforms = import_torchvision("torchvision.transforms")


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, [sample, y, x, channel] of bytes, changed when they are asked for."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images.numpy(), targets.tolist()
        self.change = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
                cut_out,
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.images[index]), self.targets[index]


def cut_out(image: Tensor, side: int = 16) -> Tensor:
    """Fill a square with zeros, in every second image."""
    if torch.rand(()) < 0.5:
        y, x = (int(torch.randint(32, ())) - side // 2 for _ in range(2))
        image[:, max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = 0
    return image


class PlainSAM(torch.optim.Optimizer):
    """SAM from tensor to tensor; without `normalize` the perturbation is sign * rho * g."""

    def __init__(
        self, params: Iterable[Tensor], rho: float, sign: int, normalize: bool, **options: Any
    ) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups
        self.sign, self.normalize = sign, normalize

    @torch.no_grad()
    def first_step(self) -> None:
        norms = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norm = torch.stack(norms).norm()
        for group in self.param_groups:
            scale = self.sign * group["rho"]
            scale = scale / (norm + 1e-12) if self.normalize else scale
            for p in group["params"]:
                self.state[p]["before"] = p.data.clone()
                p.add_(p.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["before"]
        self.base_optimizer.step()
        self.zero_grad()


def aace(logits: Tensor, targets: Tensor) -> Tensor:
    """AACE from its definition: the divergence from the wrong classes' shares."""
    p = logits.softmax(1)
    wrong = 1 - functional.one_hot(targets, p.shape[1])
    shares = (p * wrong / (p * wrong).sum(1, keepdim=True)).detach()
    return (torch.xlogy(shares, shares) - shares * p.log()).sum(1).mean()


def keep_statistics(model: nn.Module, kept: bool) -> None:
    """Set the momentum of BatchNorm to 0, and back."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 0 if kept else 0.1


def plain_update(
    model: nn.Module,
    optimizer: Any,
    inputs: Tensor,
    targets: Tensor,
    perturbation_loss: Callable[[Tensor, Tensor], Tensor] = aace,
) -> tuple[float, float]:
    """One update; loss and accuracy at the perturbed weights and at the weights."""
    logits = model(inputs)
    perturbation_loss(logits, targets).backward()
    optimizer.first_step()
    keep_statistics(model, True)
    loss = functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.second_step()
    keep_statistics(model, False)
    return loss.item(), (logits.argmax(1) == targets).float().mean().item()


def loader(images: Tensor, targets: Tensor, batch: int, workers: int) -> DataLoader[Any]:
    """Shuffled batches from processes."""
    return DataLoader(
        Images(images, targets),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
