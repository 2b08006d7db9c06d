"""A hierarchy of maps, made of convolutional networks.

Shapes: C H W image, W width of the stream, h w height and width of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from nelbo.errors import ConfigError, boolean, choice, positive_integer
from nelbo.heads import Likelihood, Posterior
from nelbo.models.conditioning import Conditioning
from nelbo.models.conv_levels import Convolutions, vector_to_map
from nelbo.models.hierarchy import Hierarchy
from nelbo.models.images import check_is_image, image_shape
from nelbo.models.layout import Floor, halved, parse_layout
from nelbo.nets import Net, Projection, ResidualConvDecoder
from nelbo.nets.base import activation_class
from nelbo.nets.blocks import FORMS
from nelbo.nets.conv import channels_last
from nelbo.nets.pyramid import conv_pyramid
from nelbo.priors import Prior


class TopDownVAE(Hierarchy):
    """A top-down hierarchy of maps (Child 2021, "Very deep VAEs generalize autoregressive models").

    The top level is a vector; each level below it is a map of few channels. Nothing is convolved above the largest
    resolution of the layout and half that of the image.

    Args:
        shape: (C, H, W) of the images.
        latent_dim: number of units of the top level.
        layout: number of levels at each resolution, top first: entries `RxL`, such as [1x1, 7x3] for one level at 1x1
            and three at 7x7. The first level of the first entry is the top. None for `layout.default_layout`.
        latent_channels: number of channels of z of each level below the top.
        width: number of channels of the stream and of the encoder, W; one number, or one for each entry of the layout.
        hidden: number of channels within blocks and heads; null for W/2 (`light`) or W/4 (`bottleneck`).
        form: convolutions in blocks and heads: `light` (3x3, 1x1) or `bottleneck` (1x1, 3x3, 3x3, 1x1).
        depth: residual blocks of the encoder at each resolution.
        top_width: number of the encoder's features for the top level.
        output_width: number of channels of the decoder between the layout's largest resolution and the image's.
        features: number of the decoder's channels at the image's resolution, of which the likelihood is made; null for
            4 if images are grey and 16 if they are not.
        activation: name of an activation class of torch.nn.
        center: whether the encoder subtracts the mean training image.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
        posterior: factory of q(z_1|x); `residual_normal` makes the levels below relative to p(z|above).
        prior: factory of p(z_1).
        likelihood: factory of p(x|z).
        conditioning: factory of what the model is conditioned on, such as labels (`Conditioning`); or None.

    Raises:
        ConfigError: if the layout does not fit the images, or another option is invalid.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent_dim: int,
        layout: Sequence[str] | None,
        latent_channels: int,
        width: int | Sequence[int],
        hidden: int | None,
        form: str,
        depth: int,
        top_width: int,
        output_width: int,
        features: int | None,
        activation: str,
        center: bool,
        checkpoint_activations: bool,
        posterior: Callable[..., Posterior],
        prior: Callable[..., Prior],
        likelihood: Callable[..., Likelihood],
        conditioning: Callable[[], Conditioning] | None = None,
    ) -> None:
        image = image_shape(shape)
        check_is_image(image)
        entries = parse_layout(layout, image)
        floors, widths = with_vector_on_top(entries), width_of(width, len(entries))
        maps = [(channels, *floor.size) for channels, floor in zip(widths[-len(floors) :], floors, strict=True)]
        encoder = conv_pyramid(
            image,
            halved(image),
            maps[::-1],
            stages_below(floors),
            depth=positive_integer("depth", depth),
            form=choice("form", form, FORMS),
            top_width=positive_integer("top_width", top_width),
            activation=activation,
            center=center,
            checkpoint_activations=boolean("checkpoint_activations", checkpoint_activations),
        )
        kind = Convolutions(form, hidden, activation, sum(floor.levels for floor in floors), checkpoint_activations)
        super().__init__(
            shape=image,
            latent_dim=positive_integer("latent_dim", latent_dim),
            encoder=encoder,
            posterior=posterior,
            prior=prior,
            merge=vector_to_stream(latent_dim, top_width, activation, maps[0]),
            start=maps[0],
            levels=lambda residual: kind.levels(
                floors, maps, positive_integer("latent_channels", latent_channels), residual
            ),
            decoder=image_decoder(maps[-1], image, output_width, features, form, activation, checkpoint_activations),
            likelihood=likelihood,
        )
        self._start_weights()
        self.condition(conditioning)

    def _start_weights(self) -> None:
        """Scale the weights for deep networks, give each pixel a bias, and choose the faster memory format."""
        for part in (self.encoder, self.merge, self.decoder, *(level.block for level in self._below)):
            keep_variance(part)
        for part in self.likelihood.modules():
            if isinstance(part, Projection):
                part.add_pixel_bias()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def width_of(width: int | Sequence[int], floors: int) -> list[int]:
    """Return the width of each floor.

    Raises:
        ConfigError: if it is not one positive whole number, or one for each floor.
    """
    if not isinstance(width, list | tuple):
        return [positive_integer("width", width)] * floors
    if len(width) != floors:
        raise ConfigError("width", list(width), f"must be one number, or one for each of the layout's {floors} entries")
    return [positive_integer(f"width[{index}]", number) for index, number in enumerate(width)]


def stages_below(floors: Sequence[Floor]) -> list[int]:
    """Return for each level below the top the number of its stage of the encoder, whose first is the largest map."""
    last = len(floors) - 1
    stages = [last - number for number, floor in enumerate(floors) for _ in range(floor.levels)]
    return stages[1:]


@torch.no_grad()
def keep_variance(module: nn.Module) -> None:
    """Multiply the weights of a module's layers by sqrt(3): their variance is then 1 / (number of inputs).

    Activations then keep their scale from layer to layer (LeCun et al. 1998, section 4.6). torch's own start has a
    third of that variance, with which features of x are small after a few layers, and training begins slowly. The heads
    of p and q keep it: q is to start near p.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.mul_(math.sqrt(3))


def with_vector_on_top(floors: Sequence[Floor]) -> list[Floor]:
    """Return floors in which a top level alone at 1x1 is the first level of the floor below it.

    The top level is a vector in any case, and the stream would be a single pixel between the two.

    Example:
        >>> with_vector_on_top([Floor((1, 1), 1), Floor((7, 7), 3)])
        [Floor(size=(7, 7), levels=4)]
    """
    first, *below = floors
    if first == Floor((1, 1), 1) and below:
        return [Floor(below[0].size, below[0].levels + 1), *below[1:]]
    return list(floors)


def vector_to_stream(units: int, hidden: int, activation: str, shape: Sequence[int]) -> Net:
    """Return the network of one hidden layer from the top level's vector to the stream, a map (W, h, w)."""
    hidden_layer = [nn.Linear(units, hidden), activation_class(activation)()]
    return Net((units,), shape, nn.Sequential(*hidden_layer, vector_to_map(hidden, shape)))


def image_decoder(
    stream: Sequence[int],
    image: Sequence[int],
    output_width: int,
    features: int | None,
    form: str,
    activation: str,
    checkpoint_activations: bool,
) -> Net:
    """Return the network from the last stream to features at the image's resolution.

    Args:
        stream: (W, h, w) of the stream.
        image: (C, H, W).
        output_width: number of channels above the stream's resolution.
        features: number of channels of the result; None for 4 if images are grey and 16 if they are not.
        form: the convolutions in a block.
        activation: name of an activation class of torch.nn.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
    """
    if features is None:
        features = 4 if image[0] == 1 else 16
    steps = halved(image).index((stream[1], stream[2]))
    target = (positive_integer("features", features), *image[1:])
    positive_integer("output_width", output_width)
    if steps == 0:
        layers = [activation_class(activation)(), nn.Conv2d(stream[0], features, 1)]
        return Net(stream, target, channels_last(layers))
    return ResidualConvDecoder(
        stream,
        image,
        channels=[stream[0], *[output_width] * (steps - 1)],
        depth=[0, *[1] * (steps - 1)],
        form=form,
        upsampling="shuffle",
        resolution="half",
        features=features,
        activation=activation,
        last="scaled",
        checkpoint_activations=checkpoint_activations,
    )
