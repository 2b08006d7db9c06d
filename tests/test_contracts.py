"""What must hold for every net, head, prior and objective, in every combination that has a meaning."""

from itertools import product

import pytest
import torch
from torch.distributions import Distribution

from nelbo.errors import ConfigError
from tests.factors import LATENT_DIM, LIKELIHOODS, NETS, OBJECTIVES, POSTERIORS, PRIORS, SHAPE, images, make_vae

COMBINATIONS = list(product(NETS, POSTERIORS, PRIORS, LIKELIHOODS))


@pytest.mark.parametrize(("nets", "posterior", "prior", "likelihood"), COMBINATIONS)
def test_trace_has_the_shapes_of_the_contract(nets: str, posterior: str, prior: str, likelihood: str) -> None:
    model, x = make_vae(nets, posterior, prior, likelihood), images(likelihood)
    trace = model.trace(x, num_samples=4)
    assert isinstance(trace.px, Distribution)
    assert trace.px.batch_shape == (4, 7) and trace.px.event_shape == SHAPE
    assert trace.log_px.shape == (4, 7) and trace.log_px.isfinite().all()
    assert trace.latents[0].z.shape == (4, 7, LATENT_DIM)
    if trace.has_density:
        assert trace.kl.shape == trace.log_weight.shape == (4, 7)
    else:
        with pytest.raises(NotImplementedError):
            _ = trace.kl


@pytest.mark.parametrize(("nets", "posterior", "prior", "likelihood"), COMBINATIONS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_gets_a_gradient(nets: str, posterior: str, prior: str, likelihood: str, name: str) -> None:
    model, x, objective = make_vae(nets, posterior, prior, likelihood), images(likelihood), OBJECTIVES[name]()
    trace = model.trace(x, objective.num_samples)
    if name == "elbo" and posterior == "deterministic":
        with pytest.raises(ConfigError, match="objective=elbo: posterior=deterministic has no log q"):
            objective.check(trace)
        return
    objective.check(trace)
    loss = objective(trace, 0)
    loss.total.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


@pytest.mark.parametrize(("nets", "posterior", "prior", "likelihood"), COMBINATIONS)
def test_saved_and_loaded_models_give_identical_numbers(nets: str, posterior: str, prior: str, likelihood: str) -> None:
    model, x = make_vae(nets, posterior, prior, likelihood), images(likelihood)
    model.initialize(x)
    model.trace(x)  # in training mode: an optimal sigma is fitted here
    other = make_vae(nets, posterior, prior, likelihood)
    other.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    expected = model.eval().trace(x).log_px
    torch.manual_seed(1)
    assert torch.equal(other.eval().trace(x).log_px, expected)


@pytest.mark.parametrize(("nets", "posterior", "prior", "likelihood"), COMBINATIONS)
def test_generation_and_decoding(nets: str, posterior: str, prior: str, likelihood: str) -> None:
    model = make_vae(nets, posterior, prior, likelihood).eval()
    px = model.generate(5)
    assert px.batch_shape == (5,) and px.event_shape == SHAPE and px.sample().shape == (5, *SHAPE)
    for leading in ((), (2,), (2, 3, 4)):
        assert model.decode(torch.randn(*leading, LATENT_DIM)).batch_shape == leading
    cold = model.generate(200, temperature=0.01).mean
    assert cold.var(0).sum() < model.generate(200).mean.var(0).sum()
    for bad in ({"n": 0}, {"n": 1, "temperature": -1.0}):
        with pytest.raises(ConfigError):
            model.generate(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("nets", NETS)
def test_starting_values_put_the_mean_of_px_near_the_mean_image(nets: str, likelihood: str) -> None:
    x = torch.rand(500, 1, 1, 1) * 0.2 + torch.linspace(0.1, 0.7, 30).reshape(SHAPE)
    x = torch.bernoulli(x) if likelihood == "bernoulli" else x
    model = make_vae(nets, likelihood=likelihood)
    model.initialize(x)
    mean = model.decode(torch.zeros(LATENT_DIM)).mean
    if nets == "conv":
        assert abs(mean.mean() - x.mean()) < 0.3  # one bias for all pixels
    elif likelihood != "continuous_bernoulli":
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
