"""Codes of images, by level: vectors, maps and one-hot codes.

Shapes: B batch, C H W image.
"""

from __future__ import annotations

from torch import Tensor

from nelbo.distributions import is_discrete
from nelbo.models import Model


def has_classes(model: Model) -> bool:
    """Return whether the codes z of the top level are one-hot, (N, K), instead of vectors, (D,)."""
    return is_discrete(model.top_prior())


def modes(model: Model, x: Tensor) -> tuple[Tensor, ...]:
    """Return the code of images at every level, top first, (B, *event) each.

    It is the mode of q(z|x) (of a Gaussian, its mean; of one-hot codes, the most probable classes), of each level given
    the modes of those above.

    Args:
        model: the model, in eval mode: in training mode a codebook would change.
        x: images, (B, C, H, W), in [0, 1].
    """
    return tuple(latent.z[0] for latent in model.draw(x, model.infer(x), 1, mode=True).latents)
