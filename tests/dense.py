"""Small objectives whose Hessian can be written down, and that Hessian."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from landscape import Objective


class Quadratic(nn.Module):
    """½ θᵀ A θ, the same for every sample."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=torch.float64))
        self.theta = nn.Parameter(torch.zeros(len(matrix), dtype=torch.float64))

    def forward(self, inputs):
        return (0.5 * self.theta @ self.matrix @ self.theta).expand(len(inputs))


class Tied(nn.Module):
    """An autoencoder whose decoder is the encoder's transpose, twice registered."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, 3, bias=False)
        self.decoder = nn.Linear(5, 3, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, inputs):
        return torch.tanh(self.encoder(inputs)) @ self.decoder.weight


def quadratic(matrix):
    return Objective(Quadratic(matrix), mean, (torch.zeros(2, 1), torch.zeros(2)))


def mean(output, targets):
    return output.mean()


def symmetric(size, seed=0):
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    return (matrix + matrix.T) / 2


def mlp():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, nn.CrossEntropyLoss(), classes(33, (4,), 3)


def conv_batchnorm():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(27, 3)
    ).double()
    data = classes(33, (1, 5, 5), 3)
    model(data[0])  # moves the running statistics
    return model.eval(), nn.CrossEntropyLoss(), data


def tied():
    torch.manual_seed(2)
    inputs = torch.randn(33, 5, dtype=torch.float64)
    return Tied().double(), nn.MSELoss(), (inputs, inputs)


def attention():
    torch.manual_seed(3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 3)

        def forward(self, tokens):
            x = self.embedding(tokens)
            return self.head(self.norm(x + self.attention(x, x, x)[0]).mean(1))

    generator = torch.Generator().manual_seed(33)
    tokens = torch.randint(7, (33, 5), generator=generator)
    targets = torch.randint(3, (33,), generator=generator)
    return Net().double(), nn.CrossEntropyLoss(), (tokens, targets)


def classes(samples, shape, classes):
    generator = torch.Generator().manual_seed(samples)
    inputs = torch.randn(samples, *shape, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(classes, (samples,), generator=generator)


def dense_hessian(model, loss_fn, data):
    """The Hessian row by row, without any code of the toolkit."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(theta):
        parts = theta.split(sizes)
        shaped = {n: q.view(p.shape) for (n, p), q in zip(named.items(), parts, strict=True)}
        return loss_fn(functional_call(model, shaped, (data[0],)), data[1])

    theta = torch.cat([p.detach().flatten() for p in named.values()])
    return torch.autograd.functional.hessian(loss, theta).numpy()
