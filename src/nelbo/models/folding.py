"""Folding: a VAE that was trained for many settings, at one of them, as an ordinary VAE with parameters of its own.

At a fixed beta all gates are constants. Those of a layer are factors of the rows of its weight and of its bias. Those
of the latents are factors of the rows of the posterior head that make the mean, and of the columns of the layer that
the decoder's input goes to; what the gates add to log sigma(x) is a constant of the posterior head. The first K of D
latents are the first K of these rows and columns.

Shapes: D latent dimensions, K those of the setting, F outputs of a layer.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError
from nelbo.heads import DiagonalNormalPosterior, ResidualNormalPosterior
from nelbo.models.bound import BoundModel
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.gates import LAYERS, Gated
from nelbo.models.modulation import Modulated
from nelbo.models.nesting import LATENT_DIM
from nelbo.models.vae import VAE
from nelbo.nets import Net, Projection
from nelbo.nets.centering import CenteredNet
from nelbo.priors import StandardNormal
from nelbo.trace import LOG_BETA

POSTERIORS = (DiagonalNormalPosterior, ResidualNormalPosterior)

FORWARDS = (Net.forward, CenteredNet.forward, Projection.forward)
"""What computes the result of a network as that of its `layers`."""


def fold(bound: BoundModel) -> VAE:
    """Return an ordinary VAE with the distributions of a model at its setting, up to rounding.

    It has the prior N(0, I) of K latents, and neither gates nor latents beyond K. It shares no tensor with the model,
    which is not changed. Its parts are in training or in eval mode as those of the model are.

    Example:
        >>> from functools import partial
        >>> from nelbo.heads import Bernoulli
        >>> from nelbo.models import Nesting
        >>> from nelbo.nets import MLP
        >>> net = partial(MLP, hidden=[64], activation="Tanh")
        >>> model = VAE(shape=(1, 8, 8), latent_dim=4, encoder=net, posterior=DiagonalNormalPosterior,
        ...             prior=StandardNormal, decoder=net, likelihood=Bernoulli, nesting=partial(Nesting, decay=1.0))
        >>> folded, z = fold(model.at(latent_dim=2)), torch.randn(3, 4)
        >>> torch.allclose(folded.decode(z[:, :2]).mean, model.at(latent_dim=2).decode(z).mean, atol=1e-6)
        True

    Args:
        bound: the model, with every setting bound, such as `model.at(beta=0.5, latent_dim=8)`.

    Raises:
        ConfigError: if the model is not a VAE that was trained for many settings, if a setting is not bound, or if a
            part of the model cannot be folded.
    """
    refuse(bound)
    context, model = bound.bound(1, NO_CONTEXT), copy.deepcopy(bound.model)
    assert isinstance(model, VAE) and model.surface is not None
    with torch.no_grad(), model.surface.at(context):
        fold_layers(model.encoder, "encoder")
        fold_layers(model.decoder, "decoder")
        posterior, latent_dim = folded_posterior(model, context)
        fold_code(model, context, latent_dim)
    prior = StandardNormal((latent_dim,), model.shape).to(posterior_layer(posterior).weight)
    folded = VAE(
        shape=model.shape,
        latent_dim=latent_dim,
        encoder=lambda *_: model.encoder,
        posterior=lambda *_: posterior,
        prior=lambda *_: prior.train(model.prior.training),
        decoder=lambda *_: model.decoder,
        likelihood=lambda *_: model.likelihood,
    )
    folded.training, folded.checks_pixels = model.training, model.checks_pixels
    folded.value_range = model.value_range
    return folded


def refuse(bound: BoundModel) -> None:
    """Refuse models that are no VAE of many settings, settings that are not bound, and parts of another kind.

    Raises:
        ConfigError: for the first of them.
    """
    model = bound.model
    name = type(model).__name__
    if type(model) is not VAE or model.surface is None:
        raise ConfigError("model", name, "has nothing to fold: it is no VAE trained with rates=many or nesting")
    if others := [key for key in model.context_names if key not in (LOG_BETA, LATENT_DIM)]:
        raise ConfigError("context", others[0], "cannot be folded; only beta and latent_dim can")
    for key in bound.context_names:
        hint = "is missing: a model is folded at one value of each setting that it was trained for"
        raise ConfigError("at.beta" if key == LOG_BETA else f"at.{key}", None, hint)
    for slot, part, kinds in (("posterior", model.posterior, POSTERIORS), ("prior", model.prior, (StandardNormal,))):
        if type(part) not in kinds:
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(slot, type(part).__name__, f"cannot be folded; only {names} itself can")
    places = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    if len(places) > len(set(places)):
        raise ConfigError("model", name, "cannot be folded: some of its layers share their weights")


def fold_layers(net: nn.Module, slot: str) -> None:
    """Replace the layers with gates of a network by layers without, whose weight and bias are multiplied by the gates.

    Args:
        net: the network, which is changed.
        slot: its key, for errors.

    Raises:
        ConfigError: for a layer of another class, whose result may not be linear in its weight.
    """
    for holder in list(net.modules()):
        for name, gated in list(holder.named_children()):
            if isinstance(gated, Gated):
                layer = plain(gated.layer, slot)
                scale_outputs(layer, gated.gate(gated.current.standardized())[0])
                setattr(holder, name, layer)
            elif isinstance(gated, Modulated):
                layer = plain(gated.layer, slot)
                factors, shifts = (values[0] for values in gated.factors_and_shifts())
                scale_outputs(layer, factors)
                shifts = shifts.to(layer.weight.dtype)
                layer.bias = nn.Parameter(shifts.clone() if layer.bias is None else layer.bias + shifts)
                setattr(holder, name, layer)


def plain(layer: nn.Module, slot: str) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
    """Return a layer, if its result is its weight times its input plus its bias.

    Raises:
        ConfigError: for a subclass, or a layer whose weight is computed from other parameters.
    """
    own = {name for name, _ in layer.named_parameters()}
    if type(layer) not in LAYERS or "weight" not in own or own - {"weight", "bias"}:
        kinds = ", ".join(kind.__name__ for kind in LAYERS)
        raise ConfigError(slot, type(layer).__name__, f"cannot be folded: layers must be {kinds} of torch.nn itself")
    assert isinstance(layer, LAYERS)
    return layer


def scale_outputs(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, factors: Tensor) -> None:
    """Multiply the outputs of a layer by factors, (F,), of its units or channels."""
    factors = factors.to(layer.weight.dtype)
    if layer.bias is not None:
        layer.bias.mul_(factors)
    if isinstance(layer, nn.ConvTranspose2d):  # its weight is (inputs, outputs of a group, height, width)
        shape = (layer.groups, layer.in_channels // layer.groups, -1)
        factors = factors.reshape(layer.groups, 1, -1).expand(shape).flatten(0, 1)
    layer.weight.mul_(factors.reshape(*factors.shape, *[1] * (layer.weight.ndim - factors.ndim)))


def folded_posterior(model: VAE, context: Context) -> tuple[DiagonalNormalPosterior, int]:
    """Return the posterior head, changed to one of the first K latents with the gates in it, and K.

    Args:
        model: the model, whose posterior head is changed.
        context: the setting, (1,) each.
    """
    posterior, surface = model.posterior, model.surface
    assert isinstance(posterior, DiagonalNormalPosterior) and surface is not None
    latent_dim = model.latent_dim if surface.nesting is None else int(context[LATENT_DIM])
    layer = posterior_layer(posterior)
    ones = layer.weight.new_ones(1, model.latent_dim)
    # The mean of q is multiplied, and something is added to log sigma: of N(1, 1) these are all that is left.
    q = surface.posterior(DiagonalNormal(ones, ones, ones.log()), context)
    assert isinstance(q, DiagonalNormal)
    factors, shift = q.loc[0, :latent_dim], q.log_scale[0, :latent_dim]

    def rows(parameter: Tensor) -> Tensor:
        loc, raw = (part[:latent_dim] for part in parameter.chunk(2))
        return torch.cat([loc * factors.reshape(-1, *[1] * (loc.ndim - 1)), raw])

    replace(layer, "weight", rows(layer.weight))
    replace(layer, "bias", rows(layer.bias))
    layer.out_features = 2 * latent_dim
    posterior.project.out_shape = (2 * latent_dim,)
    if surface.rates is not None:
        posterior.log_scale_shift = shift.clone()
    return posterior, latent_dim


def posterior_layer(posterior: DiagonalNormalPosterior) -> nn.Linear:
    """Return the layer of a posterior head."""
    layer = input_layer(posterior.project, math.prod(posterior.project.in_shape), "posterior")
    assert layer is not None
    return layer


def fold_code(model: VAE, context: Context, latent_dim: int) -> None:
    """Change the layer that the decoder's input goes to into one of the first K latents, with their gates in it.

    It is the decoder's first layer, or the likelihood's, if the decoder has none.

    Args:
        model: the model, whose decoder, or likelihood, is changed.
        context: the setting, (1,) each.
        latent_dim: K.

    Raises:
        ConfigError: if there is no such layer.
    """
    decoder, likelihood = model.decoder, model.likelihood
    layer = input_layer(decoder, model.latent_dim, "decoder")
    decoder.in_shape = (latent_dim,)
    if layer is None:
        project = getattr(likelihood, "project", None)
        if not type(likelihood).__module__.startswith("nelbo.heads.") or not isinstance(project, Projection):
            hint = "cannot be folded: behind a decoder without layers only a likelihood of nelbo.heads can"
            raise ConfigError("likelihood", type(likelihood).__name__, hint)
        layer = input_layer(project, model.latent_dim, "likelihood")
        assert layer is not None
        decoder.out_shape = project.in_shape = (latent_dim,)
    assert model.surface is not None
    factors = model.surface.code(layer.weight.new_ones(1, model.latent_dim), context)[0, :latent_dim]
    replace(layer, "weight", layer.weight[:, :latent_dim] * factors)
    layer.in_features = latent_dim


def input_layer(net: nn.Module, size: int, slot: str) -> nn.Linear | None:
    """Return the linear layer that the input of a network goes to; None if the network has no layers.

    Args:
        net: the network.
        size: the number of elements of its input.
        slot: the key of the part that it belongs to, for errors.

    Raises:
        ConfigError: if the input goes elsewhere, or it cannot be known where.
    """
    layers = getattr(net, "layers", None)
    stages = list(layers) if type(layers) is nn.Sequential else [layers]
    stages = [stage for stage in stages if not isinstance(stage, nn.Flatten | nn.Identity)]
    if isinstance(net, Net) and type(net).forward in FORWARDS and getattr(net, "mean", None) is None:
        if not stages:
            return None
        if isinstance(stages[0], nn.Linear) and stages[0].in_features == size:
            layer = plain(stages[0], slot)
            assert isinstance(layer, nn.Linear)
            return layer
    hint = "cannot be folded: the first of its `layers` must be a linear one, and it must have the `forward` of Net"
    raise ConfigError(slot, type(net).__name__, hint)


def replace(layer: nn.Linear, name: str, value: Tensor) -> None:
    """Replace a parameter of a layer by another value, which has a storage of its own."""
    old = getattr(layer, name)
    setattr(layer, name, nn.Parameter(value, requires_grad=old.requires_grad))
