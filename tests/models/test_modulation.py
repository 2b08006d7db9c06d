"""Layers that are scaled and shifted by functions of the setting."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.distributions import kl_divergence

from nelbo.errors import ConfigError
from nelbo.models import VAE, ManyRates
from nelbo.models.modulation import Modulated
from nelbo.models.nesting import LATENT_DIM
from nelbo.objectives import NegativeELBO
from nelbo.trace import LOG_BETA
from tests.helpers.factors import NETS, SHAPE
from tests.helpers.many_settings import NESTING, RATES, make_many, shaken


def make(nets: str = "mlp", **parts: object) -> VAE:
    """A model at the start of training."""
    return make_many(nets, **{"rates": partial(RATES, layers="modulation"), "nesting": NESTING, **parts}).eval()


@pytest.mark.parametrize("nets", ["mlp", "conv", "residual_conv"])
def test_every_image_has_its_own_setting(nets: str) -> None:
    model = shaken(make(nets))
    x = torch.rand(5, *model.shape).round()
    betas, counts = [0.05, 0.3, 1.0, 4.0, 10.0], [1, 4, 2, 3, 4]
    context = {LOG_BETA: torch.tensor(betas).log(), LATENT_DIM: torch.tensor(counts)}
    trace = model.trace(x, 3, context)
    for index, (beta, count) in enumerate(zip(betas, counts, strict=True)):
        alone = model.at(beta=beta, latent_dim=count)
        q = alone.encode(x[index : index + 1])
        # Convolutions of one image and of five sum in another order on some processors.
        close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
        close(kl_divergence(q, trace.latents[0].p)[0], trace.kl[0, index])
        z = trace.latents[0].z[:, index : index + 1]
        close(alone.decode(z).log_prob(x[index])[:, 0], trace.log_px[:, index])


def test_networks_start_as_those_without_settings_and_then_depend_on_both() -> None:
    encoder, _ = NETS["mlp"]
    torch.manual_seed(0)
    plain, x = encoder(SHAPE), torch.rand(3, *SHAPE)
    start = make()
    for beta, count in ((0.05, 1), (10.0, 4)):
        context = start.at(beta=beta, latent_dim=count).bound(3, {})  # type: ignore[attr-defined]
        torch.testing.assert_close(start.encoder_features(x, context), plain(x))
    model = shaken(make())
    means = [model.at(beta=b, latent_dim=k).encode(x).mean[:, 0] for b, k in ((0.05, 4), (5.0, 4), (0.05, 1))]
    assert not torch.allclose(means[0], means[1], rtol=0.01)
    assert not torch.allclose(means[0], means[2], rtol=0.01)  # gates depend on beta alone


def test_without_nesting_the_number_of_latents_is_all_of_them() -> None:
    model = make(nesting=None)
    assert model.surface is not None and model.surface.rates is not None
    current = model.surface.rates.current
    with model.surface.at({LOG_BETA: torch.tensor([0.0, 1.0])}):
        assert current.setting()[:, 1].tolist() == [1.0, 1.0]
    nested = make()
    assert nested.surface is not None and nested.surface.rates is not None
    with nested.surface.at({LOG_BETA: torch.zeros(3), LATENT_DIM: torch.tensor([1, 2, 4])}):
        assert nested.surface.rates.current.setting()[:, 1].tolist() == pytest.approx([-1.0, 0.0, 1.0])


def test_every_hidden_layer_is_modulated_and_has_a_gradient() -> None:
    model = make().train()
    layers = [part for part in model.modules() if isinstance(part, Modulated)]
    encoder, decoder = (sum(isinstance(p, torch.nn.Linear) for p in net(SHAPE).modules()) for net in NETS["mlp"])
    assert len(layers) == encoder + decoder
    x = torch.rand(32, *SHAPE).round()
    NegativeELBO(beta=1.0, num_samples=1)(model.trace(x, 1, model.draw_context(32)), 0).total.backward()  # type: ignore[no-untyped-call]
    for layer in layers:
        assert layer.last.weight.grad is not None and layer.last.weight.grad.abs().max() > 0


def test_an_unknown_kind_of_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="layers.*film.*gates.*modulation"):
        make(rates=partial(ManyRates, lowest=0.1, highest=1.0, layers="film"))
