"""A hierarchy of vectors, made of fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from nelbo.errors import positive_integer
from nelbo.heads import Likelihood, Posterior
from nelbo.models.conditioning import Conditioning
from nelbo.models.hierarchy import Hierarchy
from nelbo.models.images import image_shape
from nelbo.models.level import Level
from nelbo.nets import Projection, ResidualMLP
from nelbo.nets.base import activation_class, widths
from nelbo.nets.blocks import DenseBlock
from nelbo.nets.pyramid import dense_pyramid
from nelbo.priors import Prior


class LadderVAE(Hierarchy):
    """A top-down hierarchy of vectors (Sonderby et al. 2016, "Ladder variational autoencoders").

    Unlike in that paper, the posterior's head is given the features of both directions, instead of a product of two
    normal distributions, and everything is residual, without batch normalisation.

    Args:
        shape: (C, H, W) of the images.
        levels: number of units of each level, top first, such as [16, 24, 32].
        width: number of features of the encoder and of the stream, W.
        hidden: number of features within blocks and heads; None for W.
        depth: residual blocks of the lowest stage of the encoder, and of the decoder.
        activation: name of an activation class of torch.nn.
        center: whether the encoder subtracts the mean training image.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
        posterior: factory of q(z_1|x); `residual_normal` makes the levels below relative to p(z|above).
        prior: factory of p(z_1).
        likelihood: factory of p(x|z).
        conditioning: factory of what the model is conditioned on, such as labels (`Conditioning`); or None.

    Raises:
        ConfigError: if `levels` is not a list of two or more positive whole numbers, or another option is invalid.

    Example:
        >>> from nelbo.heads import Bernoulli, DiagonalNormalPosterior
        >>> from nelbo.priors import StandardNormal
        >>> vae = LadderVAE(shape=(1, 8, 8), levels=[2, 4], width=32, hidden=None, depth=1, activation="GELU",
        ...                 center=True, checkpoint_activations=False, posterior=DiagonalNormalPosterior,
        ...                 prior=StandardNormal, likelihood=Bernoulli)
        >>> [tuple(latent.z.shape) for latent in vae.trace(torch.rand(16, 1, 8, 8).round(), 3).latents]
        [(3, 16, 2), (3, 16, 4)]
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        levels: Sequence[int],
        width: int,
        hidden: int | None,
        depth: int,
        activation: str,
        center: bool,
        checkpoint_activations: bool,
        posterior: Callable[..., Posterior],
        prior: Callable[..., Prior],
        likelihood: Callable[..., Likelihood],
        conditioning: Callable[[], Conditioning] | None = None,
    ) -> None:
        units = widths("levels", levels, at_least=2)
        positive_integer("width", width)
        if hidden is not None:
            positive_integer("hidden", hidden)
        positive_integer("depth", depth)
        image = image_shape(shape)
        encoder = dense_pyramid(
            image,
            len(units),
            width=width,
            hidden=hidden,
            depth=depth,
            activation=activation,
            center=center,
            checkpoint_activations=checkpoint_activations,
        )
        decoder = ResidualMLP(
            (width,),
            image,
            width=width,
            depth=depth,
            hidden=hidden,
            activation=activation,
            last="scaled",
            center=False,
            checkpoint_activations=checkpoint_activations,
        )
        super().__init__(
            shape=image,
            latent_dim=units[0],
            encoder=encoder,
            posterior=posterior,
            prior=prior,
            merge=Projection((units[0],), (width,)),
            start=(width,),
            levels=lambda residual: [
                dense_level(size, width, hidden, len(units), activation, residual, checkpoint_activations)
                for size in units[1:]
            ],
            decoder=decoder,
            likelihood=likelihood,
        )
        self.condition(conditioning)


def dense_level(
    units: int,
    width: int,
    hidden: int | None,
    depth: int,
    activation: str,
    residual: bool,
    checkpoint_activations: bool,
) -> Level:
    """Return a level of vectors.

    Args:
        units: number of units, D.
        width: number of features of the stream and of the encoder.
        hidden: number of features within the block and the heads; None for `width`.
        depth: number of levels.
        activation: name of an activation class of torch.nn.
        residual: whether q is relative to p.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
    """
    act, between = activation_class(activation), hidden or width

    def head(inputs: int, outputs: int, *, zero: bool) -> nn.Module:
        last = nn.Linear(between, outputs)
        if zero:
            zero_parameters(last)
        return nn.Sequential(act(), nn.Linear(inputs, between), act(), last)

    merge = nn.Linear(units, width)
    scale_parameters(merge, 1 / math.sqrt(depth))
    return Level(
        (units,),
        (width,),
        enter=nn.Identity(),
        prior=head(width, 2 * units + width, zero=True),
        posterior=head(2 * width, 2 * units, zero=residual),
        merge=merge,
        block=DenseBlock(width, hidden=hidden, activation=activation, depth=depth),
        residual=residual,
        checkpoint_activations=checkpoint_activations,
    )


@torch.no_grad()
def zero_parameters(module: nn.Module) -> None:
    """Set all parameters of a module to 0, so that p(z|above) starts as N(0, I), or q as p."""
    for parameter in module.parameters():
        parameter.zero_()


@torch.no_grad()
def scale_parameters(module: nn.Module, factor: float) -> None:
    """Multiply all parameters of a module by a factor, so that the sum over many levels does not grow with them."""
    for parameter in module.parameters():
        parameter.mul_(factor)
