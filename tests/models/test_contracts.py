"""Contracts of every network, head, prior and objective, in every supported combination."""

import contextlib
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.errors import ConfigError
from nelbo.models import VAE
from tests.helpers.factors import (
    CODE_POSTERIORS,
    CODE_PRIORS,
    CONVOLUTIONAL,
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

SHAPES = {nets: (3, 6, 5) if nets in CONVOLUTIONAL else SHAPE for nets in NETS}
"""Image shapes by network; with three channels, the likelihoods in which channels depend on each other are tested."""

EVERY_PRIOR = {"mlp": set(POSTERIORS | CODE_POSTERIORS), "conv": set(CODE_POSTERIORS)}
"""Posteriors that are combined with every prior, by network; priors see no network but for that of a VampPrior."""

COMBINATIONS = [
    parts
    for parts in product(NETS, POSTERIORS | CODE_POSTERIORS, PRIORS | CODE_PRIORS)
    if refusal(parts[1], parts[2], "none") is None
    # Flat features have one code, with no earlier one for an autoregressive prior to condition on.
    and (parts[0] in CONVOLUTIONAL or parts[1:] != ("vector_quantized", "autoregressive"))
    and (parts[1] in EVERY_PRIOR.get(parts[0], ()) or parts[2] in ("standard_normal", "categorical", "vamp"))
]
"""Supported combinations of network, posterior and prior."""


def chosen_likelihoods() -> dict[tuple[str, str, str], list[str]]:
    """Return likelihoods for each combination, so that each meets every network, every posterior and every prior."""
    met = set[tuple[int, str, str]]()
    chosen: dict[tuple[str, str, str], list[str]] = {parts: [] for parts in COMBINATIONS}

    def choose(parts: tuple[str, str, str], least: int, most: int) -> None:
        pairs = {name: {(*part, name) for part in enumerate(parts)} - met for name in LIKELIHOODS}
        for name in sorted(pairs, key=lambda name: len(pairs[name]), reverse=True)[:most]:
            if name not in chosen[parts] and len(pairs[name] - met) >= least:
                chosen[parts].append(name)
                met.update(pairs[name])

    for parts in COMBINATIONS:  # one for each, then as many as bring new pairs
        choose(parts, 0, 1)
    for least in (3, 2, 1):
        for parts in COMBINATIONS:
            choose(parts, least, len(LIKELIHOODS))
    return chosen


CHOSEN = chosen_likelihoods()
"""The likelihoods that tests of a combination iterate over."""


def test_every_likelihood_meets_every_network_posterior_and_prior() -> None:
    assert set(CHOSEN) == set(COMBINATIONS) and all(CHOSEN.values())
    for place in range(3):
        met = {(parts[place], name) for parts, names in CHOSEN.items() for name in names}
        assert met == set(product({parts[place] for parts in COMBINATIONS}, LIKELIHOODS))


def random_codes(model: VAE, *leading: int) -> Tensor:
    """Return random latents of the model's kind, (*leading, *event)."""
    shape = model.posterior.event_shape(LATENT_DIM)
    if len(shape) == 1:
        return torch.randn(*leading, *shape)
    return torch.eye(shape[-1])[torch.randint(shape[-1], (*leading, shape[0]))]


@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_trace_has_the_shapes_of_the_contract(nets: str, posterior: str, prior: str) -> None:
    for likelihood in CHOSEN[nets, posterior, prior]:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        trace = model.trace(x, num_samples=4)
        (latent,) = trace.latents
        assert isinstance(trace.px, Distribution)
        assert trace.px.batch_shape == (4, 7) and trace.px.event_shape == SHAPES[nets], likelihood
        assert trace.log_px.shape == (4, 7) and trace.log_px.isfinite().all(), likelihood
        event = model.posterior.event_shape(LATENT_DIM)
        assert latent.z.shape == (4, 7, *event) and latent.q.event_shape == latent.p.event_shape == event
        assert latent.q.batch_shape == (7,) and latent.p.batch_shape == ()
        if trace.has_density:
            assert trace.kl.shape == trace.log_weight.shape == (4, 7) and trace.kl.isfinite().all(), likelihood
        elif (posterior, prior) != ("categorical", "autoregressive"):
            with contextlib.nullcontext() if trace.has_kl else pytest.raises(NotImplementedError):
                assert trace.kl.shape == (4, 7) and trace.kl.isfinite().all(), likelihood
        model.eval()  # training differs: sigma may be that of the batch, and one-hot samples are relaxed
        trace = model.trace(x, num_samples=4)
        (latent,) = trace.latents
        if trace.has_density:
            torch.testing.assert_close(model.log_joint(x, [latent.z]), trace.log_px + latent.log_p)
            torch.testing.assert_close(trace.log_weight, trace.log_px + latent.log_p - latent.q.log_prob(latent.z))


GRADIENTS = [
    (*parts, name, likelihood)
    for index, parts in enumerate(COMBINATIONS)
    for name in OBJECTIVES
    # The ELBO with all chosen likelihoods; the other objectives differ only in terms of the latents.
    for likelihood in ([None] if name == "elbo" else [list(LIKELIHOODS)[index % len(LIKELIHOODS)]])
    if name in ("elbo", "vq_vae") or parts[0] == "mlp"
]


@pytest.mark.parametrize(("nets", "posterior", "prior", "name", "chosen"), GRADIENTS)
def test_every_parameter_gets_a_gradient(nets: str, posterior: str, prior: str, name: str, chosen: str | None) -> None:
    message = refusal(posterior, prior, name)
    objective = OBJECTIVES[name]()
    if message:
        with pytest.raises(ConfigError, match=message):
            objective.check(make_vae(nets, posterior, prior).eval().trace(images(), 1))
        return
    for likelihood in [chosen] if chosen else CHOSEN[nets, posterior, prior]:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        objective.check(model.eval().trace(x, 1))
        trace = model.train().trace(x, objective.num_samples)
        objective(trace, 0).total.backward()
        for key, parameter in [*model.named_parameters(), *objective.named_parameters()]:
            gradient = parameter.grad
            assert gradient is not None and gradient.isfinite().all() and gradient.any(), (likelihood, key)


@pytest.mark.parametrize(("posterior", "prior"), list(product(POSTERIORS | CODE_POSTERIORS, PRIORS | CODE_PRIORS)))
def test_only_unsupported_pairs_of_posterior_and_prior_are_rejected(posterior: str, prior: str) -> None:
    message = refusal(posterior, prior, "none")
    if message:
        with pytest.raises(ConfigError, match=message):
            make_vae(posterior=posterior, prior=prior).trace(images())
    else:
        assert make_vae(posterior=posterior, prior=prior).trace(images()).log_px.isfinite().all()


@pytest.mark.parametrize(("nets", "posterior", "prior"), COMBINATIONS)
def test_saved_and_loaded_models_give_identical_numbers(nets: str, posterior: str, prior: str) -> None:
    for likelihood in CHOSEN[nets, posterior, prior]:
        model, x = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]), images(likelihood, shape=SHAPES[nets])
        model.initialize(x)
        model.advance(3)
        model.trace(x)  # in training mode, which sets an optimal sigma
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
    for likelihood in CHOSEN[nets, posterior, prior]:
        model = make_vae(nets, posterior, prior, likelihood, SHAPES[nets]).eval()
        px = model.generate(5)
        assert px.batch_shape == (5,) and px.event_shape == SHAPES[nets], likelihood
        assert px.sample().shape == (5, *SHAPES[nets]), likelihood
        assert px.mean.shape == (5, *SHAPES[nets]), likelihood
        for leading in ((), (2,), (2, 3, 4)):
            assert model.decode(random_codes(model, *leading)).batch_shape == leading, likelihood
        if posterior in CODE_POSTERIORS:  # their priors are initialised as uniform, at every temperature
            continue
        with torch.no_grad():
            hot, cold = (model.generate(200, temperature).mean.var(0).sum() for temperature in (2.0, 0.01))
        assert cold < hot, likelihood
    for bad in ({"n": 0}, {"n": 1, "temperature": -1.0}):
        with pytest.raises(ConfigError):
            model.generate(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("nets", NETS)
def test_initialisation_moves_the_mean_of_px_to_the_mean_image(nets: str, likelihood: str) -> None:
    x = torch.rand(500, 1, 1, 1) * 0.1 + torch.linspace(0.02, 0.3, 30).reshape(SHAPE)
    x = torch.bernoulli(x) if likelihood == "bernoulli" else x
    model = make_vae(nets, likelihood=likelihood)
    untouched = (model.decode(torch.zeros(LATENT_DIM)).mean.mean() - x.mean()).abs()
    model.initialize(x)
    mean = model.decode(torch.zeros(LATENT_DIM)).mean
    assert (mean.mean() - x.mean()).abs() < max(untouched, 0.05)  # at random, an untouched mean may be close
    if nets in CONVOLUTIONAL:
        assert abs(mean.mean() - x.mean()) < 0.1  # one bias for all pixels
    else:
        # The difference is the output of the network at z = 0.
        assert (mean - x.mean(0)).abs().mean() < 0.15
    if likelihood == "gaussian":
        start = x.mean() if nets in CONVOLUTIONAL else x.mean(0)
        assert abs(model.generate(1).base_dist.scale.mean() - (x - start).square().mean().sqrt()) < 1e-3  # type: ignore[attr-defined]


def test_a_wrong_image_shape_is_reported() -> None:
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 1, 6, 5\), got \(2, 1, 5, 6\)"):
        make_vae().trace(torch.rand(2, 1, 5, 6))


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, "8", True, None])
def test_an_invalid_latent_dim_is_rejected(latent_dim: object) -> None:
    with pytest.raises(ConfigError, match="latent_dim=.*: must be a whole number of at least 1"):
        make_vae(latent_dim=latent_dim)  # type: ignore[arg-type]
