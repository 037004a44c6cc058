"""A step of training never waits for a GPU: shown on torch's device "meta", which has no numbers.

Whatever looks at a value there fails, as does a copy that would wait.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.ranks import Ranks
from training.failures import FiniteWatch
from training.jobs import prepare
from training.methods import LABELS
from training.presets import PRESETS
from training.updates import make_update

NEEDED = {"usam": {"rho": 0.1}, "le-sam": {"rho": 0.5, "le_sam_sigma": 0.1}}
CASES = [{"method": method, **NEEDED.get(method, {})} for method in LABELS]
CASES += [
    {"method": "sam+aace", "aace_mode": "rand"},
    {"method": "sam+aace", "aace_threshold": 0.1, "aace_mode": "const"},
    {"method": "sam", "m": 16, "ascent_steps": 2},
    {"method": "gsam", "m": 16},
    {"method": "asam", "update_label_smoothing": 0.1},
]


class NoWaiting(TorchDispatchMode):
    """Refuses copies between the CPU and the device that are waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default:
            moved = args[0].device != result.device
            assert not moved or kwargs.get("non_blocking"), "a copy to the device waits"
        if func is torch.ops.aten.copy_.default:
            moved = args[0].device != args[1].device
            assert not moved or args[2:] == (True,), "a copy to the device waits"
        return result


def step(job, watch):
    _, inputs, targets = next(job.batches)
    watch.add(job.step, make_update(job, inputs, targets))
    job.step += 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_a_step_never_waits_for_the_device(case):
    config = replace(PRESETS["digits-sgd"](), device="meta", recipe="crop-flip-cutout", **case)
    config = replace(config, batch_size=32, train_samples=64)  # two updates in an epoch
    job, _, _ = prepare(config, None, Ranks())
    watch = FiniteWatch(
        job.problem.model, Path("run"), lr_at=config.lr_at, flush=lambda: None, every=20
    )
    with NoWaiting():
        for _ in range(3):
            step(job, watch)
    assert job.step == 3


def test_a_look_at_a_number_of_the_device_fails():
    with pytest.raises(RuntimeError, match="meta"), NoWaiting():
        bool(torch.ones(2, device="meta").isfinite().all())
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        torch.ones(2).to("meta")
