"""What must hold for every net, head, prior and objective, in every combination that has a meaning."""

from itertools import product

import pytest
import torch
from torch.distributions import Distribution

from nelbo.errors import ConfigError
from tests.factors import (
    LATENT_DIM,
    LIKELIHOODS,
    NETS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    SHAPE,
    images,
    make_vae,
    refusal,
)

SHAPES = {"mlp": SHAPE, "linear": SHAPE, "conv": (3, 6, 5)}
"""Channels that depend on one another are seen by the convolutional nets."""

COMBINATIONS = [parts for parts in product(NETS, POSTERIORS, PRIORS) if refusal(parts[1], parts[2], "none") is None]
"""Of networks, posterior and prior; every test goes through all likelihoods too."""


@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_trace_has_the_shapes_of_the_contract(nets: str, posterior: str, prior: str) -> None:
    for likelihood in LIKELIHOODS:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        trace = model.trace(x, num_samples=4)
        (latent,) = trace.latents
        assert isinstance(trace.px, Distribution)
        assert trace.px.batch_shape == (4, 7) and trace.px.event_shape == SHAPES[nets], likelihood
        assert trace.log_px.shape == (4, 7) and trace.log_px.isfinite().all(), likelihood
        assert latent.z.shape == (4, 7, LATENT_DIM) and latent.q.batch_shape == (7,) and latent.p.batch_shape == ()
        if trace.has_density:
            assert trace.kl.shape == trace.log_weight.shape == (4, 7) and trace.kl.isfinite().all(), likelihood
            model.eval()  # an optimal sigma is that of the batch in training only
            trace = model.trace(x, num_samples=4)
            (latent,) = trace.latents
            torch.testing.assert_close(model.log_joint(x, [latent.z]), trace.log_px + latent.log_p)
            torch.testing.assert_close(trace.log_weight, trace.log_px + latent.log_p - latent.q.log_prob(latent.z))
        else:
            with pytest.raises(NotImplementedError):
                _ = trace.kl


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_every_parameter_gets_a_gradient(nets: str, posterior: str, prior: str, name: str) -> None:
    told = refusal(posterior, prior, name)
    objective = OBJECTIVES[name]()
    if told:
        with pytest.raises(ConfigError, match=told):
            objective.check(make_vae(nets, posterior, prior).trace(images(), 1))
        return
    for likelihood in LIKELIHOODS:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        trace = model.trace(x, objective.num_samples)
        objective.check(trace)
        objective(trace, 0).total.backward()
        for key, parameter in model.named_parameters():
            gradient = parameter.grad
            assert gradient is not None and gradient.isfinite().all() and gradient.any(), (likelihood, key)


@pytest.mark.parametrize(("posterior", "prior"), list(product(POSTERIORS, PRIORS)))
def test_pairs_without_meaning_are_refused_and_no_others(posterior: str, prior: str) -> None:
    told = refusal(posterior, prior, "none")
    model, x = make_vae(posterior=posterior, prior=prior), images()
    if told:
        with pytest.raises(ConfigError, match=told):
            model.trace(x)
    else:
        assert model.trace(x).log_px.isfinite().all()


@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_saved_and_loaded_models_give_identical_numbers(nets: str, posterior: str, prior: str) -> None:
    for likelihood in LIKELIHOODS:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        model.initialize(x)
        model.advance(3)
        model.trace(x)  # in training mode: an optimal sigma is fitted here
        other = make_vae(nets, posterior, prior, likelihood, SHAPES[nets])
        other.load_state_dict(model.state_dict())
        numbers = []
        for each in (model.eval(), other.eval()):
            torch.manual_seed(1)
            trace = each.trace(x)
            numbers.append(trace.log_weight if trace.has_density else trace.log_px)
        assert torch.equal(*numbers), likelihood


@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_generation_and_decoding(nets: str, posterior: str, prior: str) -> None:
    for likelihood in LIKELIHOODS:
        model = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]).eval()
        px = model.generate(5)
        assert px.batch_shape == (5,) and px.event_shape == SHAPES[nets], likelihood
        assert px.sample().shape == (5, *SHAPES[nets]), likelihood
        assert px.mean.shape == (5, *SHAPES[nets]), likelihood
        for leading in ((), (2,), (2, 3, 4)):
            assert model.decode(torch.randn(*leading, LATENT_DIM)).batch_shape == leading, likelihood
        with torch.no_grad():
            hot, cold = (model.generate(200, temperature).mean.var(0).sum() for temperature in (2.0, 0.01))
        assert cold < hot, likelihood
    for bad in ({"n": 0}, {"n": 1, "temperature": -1.0}):
        with pytest.raises(ConfigError):
            model.generate(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("nets", NETS)
def test_starting_values_put_the_mean_of_px_near_the_mean_image(nets: str, likelihood: str) -> None:
    x = torch.rand(500, 1, 1, 1) * 0.1 + torch.linspace(0.02, 0.3, 30).reshape(SHAPE)
    x = torch.bernoulli(x) if likelihood == "bernoulli" else x
    model = make_vae(nets, likelihood=likelihood)
    untouched = (model.decode(torch.zeros(LATENT_DIM)).mean.mean() - x.mean()).abs()
    model.initialize(x)
    mean = model.decode(torch.zeros(LATENT_DIM)).mean
    if likelihood == "continuous_bernoulli":  # its logit is not that of its mean
        assert (mean.mean() - x.mean()).abs() < untouched
    elif nets == "conv":
        assert abs(mean.mean() - x.mean()) < 0.1  # one bias for all pixels
    else:
        # What is left is the net's own output at z = 0.
        assert (mean - x.mean(0)).abs().mean() < 0.15
    if likelihood == "gaussian":
        assert abs(model.generate(1).base_dist.scale.mean() - x.var(0, correction=0).mean().sqrt()) < 1e-3  # type: ignore[attr-defined]


def test_a_wrong_image_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 6, 5\), got \(2, 1, 5, 6\)"):
        make_vae().trace(torch.rand(2, 1, 5, 6))


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, "8", True, None])
def test_a_bad_latent_dim_is_refused(latent_dim: object) -> None:
    with pytest.raises(ConfigError, match="latent_dim=.*: must be a whole number of at least 1"):
        make_vae(latent_dim=latent_dim)  # type: ignore[arg-type]
