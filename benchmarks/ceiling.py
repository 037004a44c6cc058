"""What bare convolutions of a net reach: the ceiling that a surface's speed is measured against."""

import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNKS = (8, 16, 32, 64, 128, 256)
FORMATS = ("contiguous", "channels_last", "prepacked")
# Shape of one image's input, weight shape, stride, padding.
Layer = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def layers_of(model: nn.Module, image: Tensor) -> Counter[Layer]:
    """The convolutions of one forward pass, and how often each occurs."""
    found: Counter[Layer] = Counter()

    def note(module: nn.Conv2d, inputs: tuple[Tensor], _: Tensor) -> None:
        shape = tuple(inputs[0].shape[1:])
        assert isinstance(module.padding, tuple)
        found[shape, tuple(module.weight.shape), module.stride, module.padding] += 1

    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(note) for module in convolutions]
    with torch.no_grad():
        model(image[None])
    for handle in handles:
        handle.remove()
    return found


def measure_ceiling(
    layers: Counter[Layer], samples: int, dtype: torch.dtype, calls: int = 5
) -> dict[str, object]:
    """Seconds of all convolutions over all samples: the best one chunk and format for all layers.

    Inputs are the same memory at every call, so warm in the cache where they fit. `mixed_seconds`
    lets each layer have its own best chunk and format, which no net can have without reordering.
    """
    totals: dict[tuple[int, str], float] = {}
    best: dict[Layer, float] = {}
    for chunk in sorted({min(chunk, samples) for chunk in CHUNKS}):
        for layout in FORMATS:
            total = 0.0
            for layer, count in layers.items():
                seconds = _seconds(layer, chunk, layout, dtype, calls) * samples / chunk
                best[layer] = min(best.get(layer, seconds), seconds)
                total += count * seconds
            totals[chunk, layout] = total
    chunk, layout = min(totals, key=lambda key: totals[key])
    return {
        "seconds": totals[chunk, layout],
        "chunk": chunk,
        "format": layout,
        "mixed_seconds": sum(count * best[layer] for layer, count in layers.items()),
    }


@torch.inference_mode()
def _seconds(layer: Layer, chunk: int, layout: str, dtype: torch.dtype, calls: int) -> float:
    call = _call(layer, chunk, layout, dtype)
    call()
    durations = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def _call(layer: Layer, chunk: int, layout: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    shape, weight_shape, stride, padding = layer
    memory = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    x = torch.randn(chunk, *shape).to(dtype=dtype, memory_format=memory)
    weight = torch.randn(weight_shape).to(dtype=dtype, memory_format=memory)
    if layout != "prepacked":
        return lambda: functional.conv2d(x, weight, None, stride, padding)
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, padding, stride, (1, 1), 1, list(x.shape)
    )
    return lambda: torch.ops.mkldnn._convolution_pointwise(
        x, packed, None, padding, stride, (1, 1), 1, "none", [], ""
    )
