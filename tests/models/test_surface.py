"""Models that are trained once for many betas and numbers of latents, compared with models of one setting."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from nelbo.data.arrays import Batch
from nelbo.errors import ConfigError
from nelbo.heads import DiagonalNormalPosterior, FixedGaussian
from nelbo.models import VAE, Context, ManyRates, Nesting
from nelbo.models.gates import Gated, open_share
from nelbo.models.nesting import LATENT_DIM
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO
from nelbo.priors import StandardNormal
from nelbo.schedules import Linear
from nelbo.theory.spectrum import Spectrum, spectrum
from nelbo.theory.water_filling import optimum
from nelbo.trace import LOG_BETA
from nelbo.training.probe import probe
from tests.helpers.factors import LIKELIHOODS, NETS, OBJECTIVES, POSTERIORS, PRIORS, SHAPE
from tests.helpers.many_settings import NESTING, RATES, make_many, shaken

if TYPE_CHECKING:
    from nelbo.data.module import ImageData

SIGMA = 0.5


def make(nets: str = "mlp", **parts: object) -> VAE:
    return make_many(nets, **{"rates": RATES, "nesting": NESTING, **parts})


@pytest.mark.parametrize("nets", ["linear", "mlp", "conv", "residual_conv"])
def test_every_image_has_its_own_setting(nets: str) -> None:
    model = shaken(make(nets)).eval()
    x = torch.rand(5, *model.shape).round()
    betas, counts = [0.05, 0.3, 1.0, 4.0, 10.0], [1, 4, 2, 3, 4]
    context = {LOG_BETA: torch.tensor(betas).log(), LATENT_DIM: torch.tensor(counts)}
    trace = model.trace(x, 3, context)
    for index, (beta, count) in enumerate(zip(betas, counts, strict=True)):
        alone = model.at(beta=beta, latent_dim=count)
        q = alone.encode(x[index : index + 1])
        torch.testing.assert_close(q.mean[0], trace.latents[0].q.mean[index])
        torch.testing.assert_close(kl_divergence(q, trace.latents[0].p)[0], trace.kl[0, index])
        z = trace.latents[0].z[:, index : index + 1]
        torch.testing.assert_close(alone.decode(z).log_prob(x[index])[:, 0], trace.log_px[:, index])


def test_units_beyond_those_of_a_setting_are_the_prior_and_do_not_reach_the_image() -> None:
    model = shaken(make()).eval()
    x = torch.rand(6, *SHAPE).round()
    trace = model.at(beta=0.5, latent_dim=2).trace(x, 7)
    (latent,) = trace.latents
    assert (latent.unit_kl[:, 2:] == 0).all() and (latent.unit_kl[:, :2] > 0).all()
    changed = latent.z.clone()
    changed[..., 2:] = 100.0
    bound = model.at(beta=0.5, latent_dim=2)
    assert torch.equal(bound.decode(changed).log_prob(x), bound.decode(latent.z).log_prob(x))
    whole = latent.q.base_dist.log_prob(latent.z) - latent.p.base_dist.log_prob(latent.z)
    torch.testing.assert_close(trace.log_weight, trace.log_px - whole[..., :2].sum(-1))


def test_without_a_setting_it_is_the_model_of_beta_one_and_all_latents() -> None:
    model = shaken(make()).eval()
    x = torch.rand(4, *SHAPE).round()
    whole = model.at(beta=1.0, latent_dim=4)
    torch.testing.assert_close(model.encode(x).mean, whole.encode(x).mean)
    z = torch.randn(3, 4, 4)
    assert torch.equal(model.decode(z).mean, whole.decode(z).mean)
    assert model.generate(5).mean.shape == (5, *SHAPE)
    narrow = make(rates=partial(ManyRates, lowest=2.0, highest=8.0))
    assert narrow.infer(x).context[LOG_BETA].exp().tolist() == pytest.approx([2.0] * 4)


def test_the_loss_weighs_the_kl_of_each_image_by_its_beta() -> None:
    model = shaken(make())
    x = torch.rand(64, *SHAPE).round()
    context = model.draw_context(64)
    trace = model.trace(x, 2, context)
    loss = NegativeELBO(beta=3.0, num_samples=2)(trace, 0)
    expected = (-trace.log_px + 3 * context[LOG_BETA].exp() * trace.kl).mean()
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_settings_are_drawn_from_their_distributions() -> None:
    context = make(nesting=partial(Nesting, decay=0.5)).draw_context(40_000)
    log_beta, counts = context[LOG_BETA], context[LATENT_DIM]
    low, high = math.log(0.05), math.log(10)
    assert low <= log_beta.min() and log_beta.max() <= high
    error = (high - low) / math.sqrt(12 * 40_000)
    assert abs(log_beta.mean() - (low + high) / 2) < 4 * error
    shares = torch.bincount(counts, minlength=5)[1:] / 40_000
    torch.testing.assert_close(shares, torch.tensor([8, 4, 2, 1]) / 15, rtol=0, atol=4 * 0.5 / math.sqrt(40_000))


def linear_optimum(images: Tensor, latent_dim: int) -> tuple[VAE, Spectrum]:
    """A linear model with the weights of docs/linear.md for all settings, and the spectrum of its images."""
    net = partial(MLP, hidden=[], activation="Identity")
    model = VAE(
        shape=images.shape[1:],
        latent_dim=latent_dim,
        encoder=net,
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=net,
        likelihood=partial(FixedGaussian, sigma=SIGMA),
        rates=RATES,
        nesting=NESTING,
    ).double()
    flat = images.flatten(1)
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    values, vectors = values.flip(0)[:latent_dim], vectors.flip(1)[:, :latent_dim]
    to_image = next(layer for layer in model.likelihood.modules() if isinstance(layer, nn.Linear))
    to_code = next(layer for layer in model.posterior.modules() if isinstance(layer, nn.Linear))
    rates = model.surface.rates  # type: ignore[union-attr]
    assert rates is not None
    with torch.no_grad():
        to_image.weight.copy_(vectors * values.sqrt())
        to_image.bias.copy_(mean)
        to_code.weight.zero_()
        to_code.bias.zero_()
        to_code.weight[:latent_dim] = (vectors / values.sqrt()).T
        to_code.bias[:latent_dim] = -to_code.weight[:latent_dim] @ mean
        wanted = rates.largest_offset - (SIGMA**2 / values).log()
        rates.below_largest.copy_(wanted.expm1().log())
    return model.eval(), spectrum(flat, flat)


def rate_and_distortion(model: VAE, x: Tensor, context: dict[str, float]) -> tuple[float, float]:
    """The exact rate and distortion of a linear model, nats per image."""
    bound = model.at(**context)
    with torch.no_grad():
        q = bound.encode(x)
        zero = torch.zeros(1, model.latent_dim, dtype=x.dtype)
        columns = (bound.decode(torch.eye(model.latent_dim, dtype=x.dtype)).mean - bound.decode(zero).mean).flatten(1)
        errors = (bound.decode(q.mean).mean - x).flatten(1).square().sum(1) + q.variance @ columns.square().sum(1)
        rate = float(kl_divergence(q, bound.top_prior()).mean())
    pixels = x[0].numel()
    return rate, float(errors.mean()) / (2 * SIGMA**2) + pixels / 2 * math.log(2 * math.pi * SIGMA**2)


def test_one_linear_model_is_the_optimum_of_every_setting() -> None:
    """Reverse water-filling, at settings in which no, some and all units are coded."""
    torch.manual_seed(0)
    images = (torch.randn(300, 12).double() * torch.linspace(3, 0.2, 12) @ torch.randn(12, 12).double()).reshape(
        -1, 1, 3, 4
    )
    model, values = linear_optimum(images, 6)
    for beta in (0.05, 0.5, 1.0, 3.0, 10.0):
        for count in (1, 2, 3, 6):
            exact = optimum(values, count, beta, SIGMA**2)
            rate, distortion = rate_and_distortion(model, images, {"beta": beta, "latent_dim": count})
            assert rate == pytest.approx(exact.rate, abs=1e-6)
            assert distortion == pytest.approx(exact.distortion, abs=1e-6)


def test_training_finds_the_optimum_of_every_setting() -> None:
    """With 2,000 steps, within 0.05 nats for each."""
    torch.manual_seed(0)
    images = (torch.randn(512, 6) * torch.tensor([3.0, 2.0, 1.4, 1.0, 0.6, 0.3])).reshape(-1, 1, 2, 3)
    images = images - images.mean(0)
    model, values = linear_optimum(images.double(), 3)
    model.float().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    optimizer = torch.optim.Adam(model.parameters(), 0.03, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000)
    objective = NegativeELBO(beta=Linear(steps=600, start=0.0, end=1.0), num_samples=1)
    for step in range(2000):
        optimizer.zero_grad()
        trace = model.trace(images, 1, model.draw_context(len(images)))
        objective(trace, step).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    model.double().eval()
    for beta in (0.05, 1.0, 10.0):
        for count in (1, 2, 3):
            exact = optimum(values, count, beta, SIGMA**2)
            rate, distortion = rate_and_distortion(model, images.double(), {"beta": beta, "latent_dim": count})
            regret = distortion + beta * rate - exact.distortion - beta * exact.rate
            assert -1e-6 < regret < 0.05 * max(1, beta), (beta, count, regret)


def test_gates_have_finite_gradients_where_they_close() -> None:
    exponent = torch.tensor([-50.0, -1e-3, -1e-7, 0.0, 1e-7, 5.0], requires_grad=True)
    gates = open_share(exponent)
    assert gates.tolist() == pytest.approx([1, math.sqrt(1e-3), 1e-4, 0, 0, 0], rel=1e-2)
    gates.sum().backward()
    assert exponent.grad is not None and exponent.grad.isfinite().all() and exponent.grad.abs().max() <= 1001


def test_gates_lie_on_the_layers_that_the_paper_gives_them() -> None:
    model = make()
    assert sum(isinstance(part, Gated) for part in model.encoder.modules()) == 1
    assert not any(isinstance(part, Gated) for part in model.decoder.modules())  # its only layer is the first
    deep = make("conv")
    assert sum(isinstance(part, Gated) for part in deep.encoder.modules()) == 2
    layers = sum(isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) for part in deep.decoder.modules())
    assert sum(isinstance(part, Gated) for part in deep.decoder.modules()) == layers - 1
    copied = copy.deepcopy(deep)
    copied.trace(torch.rand(2, 3, 8, 8).round(), 1)


def batch_normalized(in_shape: tuple[int, ...]) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), 8), nn.BatchNorm1d(8))
    net.out_shape = (8,)  # type: ignore[assignment]
    return net


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rates": partial(ManyRates, lowest=2, highest=1)}, "highest=1: must be larger than lowest=2"),
        ({"rates": partial(ManyRates, lowest=0, highest=1)}, "lowest=0: must be a finite number above 0"),
        ({"nesting": partial(Nesting, decay=1.5)}, "decay=1.5: must be at most 1"),
        ({"nesting": partial(Nesting, decay=0)}, "decay=0: must be a finite number above 0"),
        ({"posterior": POSTERIORS["laplace"]}, "posterior=LaplacePosterior: does not go with rates=many"),
        ({"prior": PRIORS["mixture"]}, "prior=Mixture: does not go with rates=many"),
        ({"prior": PRIORS["flow_coupling"], "rates": None}, "prior=Flow: does not go with nesting"),
        ({"likelihood": LIKELIHOODS["gaussian"]}, "likelihood=LearnedGaussian: has one scale for all settings"),
        ({"likelihood": LIKELIHOODS["gaussian_optimal"]}, "likelihood=OptimalGaussian: has one scale for all settings"),
        ({"encoder": batch_normalized}, "rates=many: does not go with batch normalisation"),
    ],
)
def test_what_does_not_go_with_many_settings_is_refused(parts: dict[str, object], message: str) -> None:
    encoder, decoder = NETS["mlp"]
    arguments: dict[str, object] = {
        "posterior": DiagonalNormalPosterior,
        "prior": StandardNormal,
        "likelihood": LIKELIHOODS["bernoulli"],
        "encoder": encoder,
        "rates": RATES,
        "nesting": NESTING,
        **parts,
    }
    with pytest.raises(ConfigError) as error:
        VAE(shape=SHAPE, latent_dim=4, decoder=decoder, **arguments)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"beta": 50}, "beta=50: must be from 0.05 to 10, for which the model was trained"),
        ({"beta": -1}, "beta=-1: must be a finite number above 0"),
        ({"latent_dim": 5}, "latent_dim=5: must be"),
        ({"label": 3}, "label=3: the model was trained for many values of beta and latent_dim alone"),
        ({"log_beta": 0, "beta": 1}, "log_beta=0: the model was trained for many values of beta and latent_dim alone"),
    ],
)
def test_a_setting_for_which_a_model_was_not_trained_is_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make().at(**setting)
    assert str(error.value).startswith(message)


def test_a_setting_can_be_bound_in_parts_but_not_twice() -> None:
    model = shaken(make()).eval()
    x = torch.rand(3, *SHAPE).round()
    parts = model.at(latent_dim=2).at(beta=0.5)
    torch.testing.assert_close(parts.encode(x).mean, model.at(beta=0.5, latent_dim=2).encode(x).mean)
    for setting in ({"latent_dim": 3}, {"beta": 2.0}):
        with pytest.raises(ConfigError, match="the model is bound already"):
            parts.at(**setting)
    with pytest.raises(ConfigError, match="latent_dim=99: must be"):
        model.at(beta=0.5).at(latent_dim=99)


def test_one_code_without_a_batch_is_decoded_to_one_image() -> None:
    model = shaken(make()).eval()
    z = torch.randn(4)
    for other in (model, model.at(beta=0.5), model.at(beta=0.5, latent_dim=2)):
        px = other.decode(z)
        assert px.batch_shape == () and torch.allclose(px.mean, other.decode(z.unsqueeze(0)).mean[0])


@pytest.mark.parametrize(("lowest", "highest"), [(50, 60), (1e-300, 1e300), (0.9, 1.1)])
def test_every_interval_starts_with_open_gates(lowest: float, highest: float) -> None:
    rates = make(rates=partial(ManyRates, lowest=lowest, highest=highest)).surface.rates  # type: ignore[union-attr]
    assert rates is not None and rates.code_gates({LOG_BETA: torch.tensor([math.log(lowest)])}).min() > 0.7


def test_a_decay_of_almost_nothing_draws_one_latent() -> None:
    assert (make(nesting=partial(Nesting, decay=1e-50)).draw_context(100)[LATENT_DIM] == 1).all()


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_that_mix_images_are_refused(name: str) -> None:
    objective = OBJECTIVES[name]()
    images = torch.rand(4, *SHAPE)
    data = cast("ImageData", None)
    means = {"elbo", "stl", "iwae", "miwae", "ciwae", "piwae", "dreg", "reconstruction"}
    weighs = {"elbo", "stl"}
    for parts, fine in (({"rates": None}, means), ({"nesting": None}, weighs)):
        model = make("linear", likelihood=LIKELIHOODS["gaussian_fixed"], latent_dim=3, **parts)
        if objective.name in fine:
            probe(model, objective, Batch(images, torch.zeros(len(images))), data, "gaussian_fixed")
        else:
            with pytest.raises(ConfigError, match=f"objective={objective.name}: "):
                probe(model, objective, Batch(images, torch.zeros(len(images))), data, "gaussian_fixed")


def test_parts_of_a_setting_can_be_left_to_the_context() -> None:
    model = shaken(make()).eval()
    x = torch.rand(3, *SHAPE).round()
    context: Context = {LOG_BETA: torch.tensor([0.0, 1.0, 2.0])}
    bound = model.at(latent_dim=2)
    torch.testing.assert_close(
        bound.encode(x, context).mean, model.encode(x, {**context, LATENT_DIM: torch.tensor([2, 2, 2])}).mean
    )
