"""How many samples of how many images are decoded at once, by device and by the size of the model's activations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nelbo.models import Model
from nelbo.numerics.randomness import isolated

CPU_ELEMENTS = 800_000
"""Elements of the largest activation on a CPU: 3 MB, which fits its cache."""

ACCELERATOR_ELEMENTS = 2**26
"""Elements of the largest activation on other devices: 256 MB in float32, so that each kernel has enough work."""

KEPT_ELEMENTS = 2**29
"""Elements of all activations together that are kept for gradients: 2 GB in float32."""


def samples_at_once(model: Model, x: Tensor, *, gradients: bool = False) -> int:
    """Return how many samples to decode at once, at least 1, over all images together.

    It does not depend on how much memory is free, because the random numbers of an image depend on it.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W), of which the first is tried.
        gradients: whether activations are kept for a backward pass.
    """
    if is_small(model, x):
        return max(1, CPU_ELEMENTS // x[0].numel())
    largest, total = activations(model, x[:1])
    if x.device.type == "cpu":
        return max(1, CPU_ELEMENTS // (total if gradients else largest))
    return max(1, min(ACCELERATOR_ELEMENTS // largest, KEPT_ELEMENTS // total if gradients else ACCELERATOR_ELEMENTS))


def images_at_once(model: Model, x: Tensor, num_samples: int, most: int) -> int:
    """Return for how many images to keep the activations of S samples each, at least 1.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W), of which the first is tried.
        num_samples: S.
        most: largest number of images.
    """
    if is_small(model, x):
        return most
    return max(1, min(most, KEPT_ELEMENTS // (activations(model, x[:1])[1] * num_samples)))


def is_small(model: Model, x: Tensor) -> bool:
    """Return whether a model has one level and is on a CPU, where activations are taken to be as large as the image."""
    return x.device.type == "cpu" and len(model.events) == 1


@torch.no_grad()
def activations(model: Model, x: Tensor) -> tuple[int, int]:
    """Return the elements of the largest activation of one sample of one image, and of all activations together.

    Activations are the outputs of all modules that drawing and decoding a sample calls, and the image.

    Args:
        model: in eval mode.
        x: one image, (1, C, H, W).
    """
    found: dict[int, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        found.update((id(tensor), tensor) for tensor in tensors_in(output))

    inference = model.infer(x)
    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        with isolated():
            model.draw(x, inference, 1)
    finally:
        for hook in hooks:
            hook.remove()
    sizes = [tensor.numel() for tensor in (x, *found.values())]
    return max(sizes), sum(sizes)


def tensors_in(output: object) -> Iterable[Tensor]:
    """Return the tensors of a module's output: itself, or those of a tuple or list."""
    if isinstance(output, Tensor):
        return [output]
    return [item for item in output if isinstance(item, Tensor)] if isinstance(output, tuple | list) else []
