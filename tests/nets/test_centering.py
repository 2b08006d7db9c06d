"""The mean training image that encoders subtract."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from nelbo.errors import ConfigError
from nelbo.heads import Bernoulli, DiagonalNormalPosterior
from nelbo.models import VAE
from nelbo.nets import MLP, GatedMLP
from nelbo.nets.centering import CenteredNet
from nelbo.priors import StandardNormal, VampPrior
from nelbo.training.weights import fit

SHAPE = (2, 3, 4)


def model(encoder: object, prior: object = StandardNormal) -> VAE:
    decoder = partial(MLP, hidden=[5], activation="Tanh")
    parts = {"posterior": DiagonalNormalPosterior, "prior": prior, "decoder": decoder, "likelihood": Bernoulli}
    return VAE(shape=SHAPE, latent_dim=3, encoder=encoder, **parts)  # type: ignore[arg-type]


def test_features_are_those_of_the_difference_from_the_mean_image() -> None:
    images = torch.rand(50, *SHAPE)
    centred, plain = (GatedMLP(SHAPE, hidden=[7], center=center) for center in (True, False))
    plain.load_state_dict(centred.state_dict(), strict=False)
    assert torch.equal(centred(images), plain(images))  # the mean is 0 at first
    for net in (centred, plain):
        net.initialize(images)
    torch.testing.assert_close(centred(images.unsqueeze(1)), plain(images - images.mean(dim=0)).unsqueeze(1))
    assert "mean" in centred.state_dict() and "mean" not in plain.state_dict()


@pytest.mark.parametrize("prior", [StandardNormal, partial(VampPrior, components=4, from_data=True)])
def test_a_model_gives_its_encoder_the_images(prior: object) -> None:
    images = torch.rand(50, *SHAPE)
    vae = model(partial(GatedMLP, hidden=[7], center=True), prior)
    vae.initialize(images)
    other = model(partial(GatedMLP, hidden=[7], center=True), prior)
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other.encoder.mean, images.mean(dim=0))  # type: ignore[arg-type]
    assert torch.equal(other.encode(images).mean, vae.encode(images).mean)


def test_weights_of_another_run_bring_their_mean_image() -> None:
    """They were learned with it."""
    net = CenteredNet(SHAPE, SHAPE, nn.Identity(), center=True)
    assert fit(net, net.state_dict()).taken == ["mean"]


def test_networks_without_starting_values_are_left_alone() -> None:
    vae = model(partial(MLP, hidden=[5], activation="Tanh"))
    before = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    vae.initialize(torch.rand(50, *SHAPE))
    assert all(torch.equal(value, before[name]) for name, value in vae.encoder.state_dict().items())


class Flat(nn.Module):
    """A network of one's own with nothing but `out_shape`."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = (torch.Size(in_shape).numel(),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(-3)


def test_an_encoder_needs_no_starting_values() -> None:
    vae = model(Flat)
    vae.initialize(torch.rand(50, *SHAPE))
    assert vae.trace(torch.rand(2, *SHAPE)).log_px.isfinite().all()


def test_invalid_options_raise() -> None:
    with pytest.raises(ConfigError, match="center=1: must be true or false"):
        GatedMLP(SHAPE, hidden=[7], center=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="center=true: is for encoders, whose input is an image; a decoder needs"):
        GatedMLP((3,), SHAPE, hidden=[7], center=True)
