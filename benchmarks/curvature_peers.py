"""One contender of `make bench-curvature`, in a process of its own: the same Hessian, its own way.

`python benchmarks/curvature_peers.py NAME WORK.pt` reads one request a line, as JSON, and answers
in one. Imports and loading of what all share are not timed; building an operator is, apart.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.models import build_model

Found = dict[str, Any]


class Tool:
    """What every contender can do; times are of the work alone.

    Args:
        path: Weights and data as `surface_nets.prepare` wrote them.
        batch: Samples that the tool is given at a time; 0 for all at once.
    """

    def __init__(self, path: str, batch: int = 0) -> None:
        content = torch.load(path)
        self.model = build_model(content["name"], classes=10, channels=3, seed=0)
        self.model.load_state_dict(content["state"])
        self.model.eval()
        self.x, self.y = content["x"], content["y"]
        self.batch = batch or len(self.x)
        self.products = 0
        start = time.perf_counter()
        self.build()
        self.build_seconds = time.perf_counter() - start

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(self.batch), self.y.split(self.batch), strict=True))

    def build(self) -> None:
        raise NotImplementedError

    def product(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def eigenpairs(self, **request: Any) -> tuple[np.ndarray, Tensor]:
        """Five eigenvalues, and their vectors as rows."""
        raise NotImplementedError

    def density(self, probes: int, steps: int) -> None:
        raise NotImplementedError


class Ours(Tool):
    """`find_eigenpairs` and `estimate_density`, as a user calls them."""

    def build(self) -> None:
        from landscape import Objective
        from landscape.operators import hessian

        self.objective = Objective(self.model, nn.functional.cross_entropy, (self.x, self.y))
        self.operator = hessian(self.objective)
        self.facts = self.operator.facts

    def product(self, v: Tensor) -> Tensor:
        return self.operator(v)

    def eigenpairs(self, **request: Any) -> tuple[np.ndarray, Tensor]:
        from landscape import find_eigenpairs

        found = find_eigenpairs(self.objective, k=5, tolerance=1e-3, seed=0, **request)
        self.products, self.facts = found.matvecs, found.facts
        assert found.eigenvectors is not None
        return found.eigenvalues, torch.from_numpy(found.eigenvectors.copy())

    def density(self, probes: int, steps: int) -> None:
        from landscape import estimate_density

        estimate_density(self.objective, probes=probes, steps=steps, seed=0)


class PyHessian(Tool):
    """PyHessian 0.1 with one batch, for which it keeps the graph of the gradient."""

    def build(self) -> None:
        import pyhessian  # its attribute "hessian" is the class, not the module

        module: Any = sys.modules["pyhessian.hessian"]
        assert module.hessian is pyhessian.hessian
        wrapped = module.hessian_vector_product

        def counted(*arguments: Any) -> Any:
            self.products += 1
            return wrapped(*arguments)

        module.hessian_vector_product = counted
        self.tool: Any = module.hessian(
            self.model, nn.functional.cross_entropy, data=(self.x, self.y), cuda=False
        )
        self.multiply = counted

    def product(self, v: Tensor) -> Tensor:
        parts = v.split([p.numel() for p in self.tool.params])
        shaped = [part.view_as(p) for part, p in zip(parts, self.tool.params, strict=True)]
        product = self.multiply(self.tool.gradsH, self.tool.params, shaped)
        return torch.cat([part.reshape(-1) for part in product])

    def eigenpairs(self, **request: Any) -> tuple[np.ndarray, Tensor]:
        self.products = 0
        torch.manual_seed(0)
        values, vectors = self.tool.eigenvalues(top_n=5)
        flat = [torch.cat([part.reshape(-1) for part in vector]) for vector in vectors]
        return np.array(values), torch.stack(flat)


class Eigenthings(Tool):
    """hessian-eigenthings 1.0 alpha, told how many steps to take."""

    def build(self) -> None:
        import hessian_eigenthings as module

        class Counted(module.HessianOperator):
            def matvec(operator, v: Tensor) -> Tensor:  # noqa: N805
                self.products += 1
                return super().matvec(v)

        loss = module.supervised_loss(nn.functional.cross_entropy)
        self.operator = Counted(self.model, self.batches, loss)
        self.module = module

    def product(self, v: Tensor) -> Tensor:
        return self.operator.matvec(v)

    def eigenpairs(self, **request: Any) -> tuple[np.ndarray, Tensor]:
        self.products = 0
        found = self.module.lanczos(self.operator, k=5, seed=0, which="LM", **request)
        vectors = found.eigenvectors
        rows = vectors if len(vectors) == 5 else vectors.T
        return found.eigenvalues.numpy(), rows.contiguous()


class Curvlinops(Tool):
    """curvlinops 3 with scipy's eigsh, to the same residual."""

    def build(self) -> None:
        from curvlinops import HessianLinearOperator

        def counted(x: Tensor) -> Tensor:
            self.products += 1
            return self.inner @ x

        self.inner: Any = HessianLinearOperator(
            self.model,
            nn.CrossEntropyLoss(),
            [p for p in self.model.parameters() if p.requires_grad],
            self.batches,
            check_deterministic=False,
        )
        self.multiply = counted

    def product(self, v: Tensor) -> Tensor:
        return self.inner @ v

    def eigenpairs(self, **request: Any) -> tuple[np.ndarray, Tensor]:
        from scipy.sparse.linalg import LinearOperator, eigsh

        self.products = 0
        size = sum(p.numel() for p in self.model.parameters())

        def matvec(x: np.ndarray) -> np.ndarray:
            return self.multiply(torch.from_numpy(x.astype(np.float32).reshape(-1))).numpy()

        operator = LinearOperator((size, size), matvec=matvec, dtype=np.float32)
        start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        values, vectors = eigsh(operator, k=5, which="LM", tol=1e-3, v0=start)
        return values, torch.from_numpy(vectors.T.copy())

    def density(self, probes: int, steps: int) -> None:
        from curvlinops.papyan2020traces.spectrum import LanczosApproximateSpectrumCached

        cache = LanczosApproximateSpectrumCached(self.inner, steps, boundaries=(-1.0, 100.0))
        cache.approximate_spectrum(num_repeats=probes)


TOOLS: dict[str, type[Tool]] = {
    "landscape": Ours,
    "pyhessian": PyHessian,
    "hessian-eigenthings": Eigenthings,
    "curvlinops": Curvlinops,
}


def answer(tool: Tool, folder: Path, request: dict[str, Any]) -> Found:
    """Do what is asked, with its seconds; vectors go to a file that is named."""
    task = request.pop("task")
    rounds, vectors, found = request.pop("rounds", 1), None, {}
    size = sum(p.numel() for p in tool.model.parameters())
    v = torch.randn(size, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    if task == "product":
        for _ in range(rounds):
            vectors = tool.product(v)
    elif task == "eigenpairs":
        values, vectors = tool.eigenpairs(**request)
        found["values"] = [float(value) for value in values]
    else:
        tool.density(**request)
    found["seconds"] = (time.perf_counter() - start) / rounds
    if vectors is not None:
        path = folder / f"{type(tool).__name__}-{task}.npy"
        np.save(path, vectors.detach().numpy())
        found["vectors"] = str(path)
    return found | {
        "products": tool.products,
        "build_seconds": tool.build_seconds,
        "facts": getattr(tool, "facts", {}),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Answer requests until they end."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the contenders print is no reply
    name, path, *batch = sys.argv[1:]
    tool = TOOLS[name](path, *map(int, batch))
    print("{}", file=replies, flush=True)
    for line in sys.stdin:
        found = answer(tool, Path(path).parent, json.loads(line))
        print(json.dumps(found), file=replies, flush=True)


if __name__ == "__main__":
    main()
