"""Models of many settings, folded at one, compared with the model that is bound to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.utils.parametrizations import weight_norm

from nelbo.errors import ConfigError
from nelbo.heads import Bernoulli, DiagonalNormalPosterior, ResidualNormalPosterior
from nelbo.models import VAE, BoundModel, Nesting
from nelbo.models.folding import scale_outputs
from nelbo.models.gates import Gated
from nelbo.models.modulation import Modulated
from nelbo.nets import MLP, Net, ResidualConvDecoder
from nelbo.priors import StandardNormal
from nelbo.trace import LOG_BETA
from tests.helpers.factors import LIKELIHOODS, SHAPE, make_vae
from tests.helpers.factors import NETS as TINY
from tests.helpers.many_settings import COLOUR, RATES, make_many, shaken

LATENT_DIM = 5
NESTING = partial(Nesting, decay=0.9)
MANY: dict[str, dict[str, Any]] = {
    "rates": {"rates": RATES},
    "nesting": {"nesting": NESTING},
    "both": {"rates": RATES, "nesting": NESTING},
    "modulated": {"rates": partial(RATES, layers="modulation"), "nesting": NESTING},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "rates": {"beta": 0.5},
    "nesting": {"latent_dim": 2},
    "both": {"beta": 0.5, "latent_dim": 2},
    "modulated": {"beta": 0.5, "latent_dim": 2},
}
_sums = partial(MLP, hidden=[8, 8, 8], activation="GELU", residual=True)
_decoder: Any = TINY["residual_conv"][1]
OTHERS: dict[str, dict[str, Any]] = {
    "sums": {"encoder": partial(_sums, center=True), "decoder": _sums},
    "transposed": {
        "shape": COLOUR,
        "encoder": TINY["conv"][0],
        "decoder": partial(ResidualConvDecoder, **{**_decoder.keywords, "upsampling": "transposed"}),
    },
}
NETS = [*TINY, *OTHERS]
"""The networks of all models of one level; `sums` is mlp_vae."""
SCALES = ["exp", "softplus"]


def make(nets: str = "mlp", **parts: Any) -> VAE:
    """A model, started on images, whose parameters are random."""
    arguments = {"latent_dim": LATENT_DIM, **OTHERS.get(nets, {}), **parts}
    model = make_many(nets if nets in TINY else "mlp", **arguments)
    model.initialize(torch.rand(20, *model.shape))
    return shaken(model).eval()


def padded(z: Tensor, size: int) -> Tensor:
    """z with random numbers in the place of the latents that the folded model does not have."""
    return torch.cat([z, torch.randn(*z.shape[:-1], size - z.shape[-1], dtype=z.dtype)], -1)


def assert_same(folded: VAE, bound: BoundModel, *, rtol: float) -> None:
    """q, the KL, p(x|z) at samples of q and of p, and pictures; absolute errors are of values of about 1."""
    close = partial(torch.testing.assert_close, rtol=rtol, atol=rtol)
    dtype, kept, size = next(folded.parameters()).dtype, folded.latent_dim, bound.events[0][0]
    x = torch.rand(6, *folded.shape, dtype=dtype).round()
    q, whole = folded.encode(x), bound.encode(x)
    close(q.mean, whole.mean[:, :kept])
    close(q.stddev, whole.stddev[:, :kept])
    trace = folded.trace(x, 3)
    close(trace.kl[0], kl_divergence(whole, bound.top_prior()))
    z = trace.latents[0].z
    px = bound.decode(padded(z, size))
    close(trace.log_px, px.log_prob(x))
    close(folded.decode(z).mean, px.mean)
    (sampled,) = folded.sample(7)
    close(folded.decode(sampled).mean, bound.decode(padded(sampled, size)).mean)
    close(folded.log_prior(z), StandardNormal((kept,), folded.shape).to(z)(folded.encode).log_prob(z))
    if kept == size:
        torch.manual_seed(1)
        generated = folded.generate(4).mean
        torch.manual_seed(1)
        close(generated, bound.generate(4).mean)


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("nets", NETS)
def test_a_folded_model_has_the_distributions_of_the_bound_one(nets: str, many: str) -> None:
    scale = SCALES[(NETS.index(nets) + list(MANY).index(many)) % 2]  # each with all networks and with all of MANY
    model = make(nets, posterior=partial(DiagonalNormalPosterior, scale=scale), **MANY[many])
    bound = model.at(**SETTINGS[many])
    assert_same(bound.folded(), bound, rtol=1e-5)
    model.double()
    assert_same(bound.folded(), bound, rtol=1e-10)


@pytest.mark.parametrize(
    ("nets", "likelihood"),
    [
        *(("linear", name) for name in ("gaussian_fixed", "gaussian_scheduled", "continuous_bernoulli", "categorical")),
        ("conv", "gaussian_scheduled"),
        ("conv", "categorical"),
    ],
)
def test_likelihoods_are_folded_and_go_along(nets: str, likelihood: str) -> None:
    """With a linear decoder it is their layer that the latents go to."""
    model = make(nets, likelihood=LIKELIHOODS[likelihood], **MANY["both"]).double()
    model.advance(math.inf)
    bound = model.at(**SETTINGS["both"])
    assert_same(bound.folded(), bound, rtol=1e-10)


@pytest.mark.parametrize(
    ("beta", "latent_dim"), [(0.05, 1), (0.05, LATENT_DIM), (1.0, 3), (10.0, 1), (10.0, LATENT_DIM)]
)
def test_every_setting_can_be_folded(beta: float, latent_dim: int) -> None:
    bound = make("conv", **MANY["both"]).double().at(beta=beta, latent_dim=latent_dim)
    assert_same(bound.folded(), bound, rtol=1e-10)


def test_settings_that_are_bound_one_after_the_other_are_folded() -> None:
    bound = make(**MANY["both"]).double().at(latent_dim=2).at(beta=3.0)
    assert_same(bound.folded(), bound, rtol=1e-10)


@pytest.mark.parametrize(
    ("nets", "many"), [*product(NETS, ("both", "modulated")), *product(("mlp", "conv"), ("rates", "nesting"))]
)
def test_a_folded_model_has_the_tensors_of_an_ordinary_one(nets: str, many: str) -> None:
    model = make(nets, **MANY[many])
    folded = model.at(**SETTINGS[many]).folded()
    latent_dim = SETTINGS[many].get("latent_dim", LATENT_DIM)
    shift = {"posterior.log_scale_shift": (latent_dim,)} if "beta" in SETTINGS[many] else {}

    def shapes(other: VAE) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in other.state_dict().items()}

    def layout(other: VAE) -> list[str]:
        return [str(part) for name, part in other.named_children()]

    ordinary = make(nets, latent_dim=latent_dim)
    assert shapes(folded) == {**shapes(ordinary), **shift}
    assert layout(folded) == layout(ordinary) and folded.surface is None and not folded.context_names
    assert folded.events == ((latent_dim,),) and folded.feature_size == latent_dim
    assert count(folded.parameters()) == count(ordinary.parameters()) < count(model.parameters())
    for name in ("encoder", "decoder"):
        net, other = getattr(folded, name), getattr(ordinary, name)
        assert (net.in_shape, net.out_shape) == (other.in_shape, other.out_shape)


def count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("nets", ["linear", "residual_conv"])
def test_the_model_is_unchanged_and_shares_no_memory(nets: str, many: str) -> None:
    model = make(nets, **MANY[many])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(4, *model.shape).round()
    bound = model.at(**SETTINGS[many])
    q = bound.encode(x).mean
    folded = bound.folded()
    tensors = [*folded.parameters(), *folded.buffers()]
    memory = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert not memory & {tensor.untyped_storage().data_ptr() for tensor in tensors}
    assert all(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() for tensor in tensors)
    with torch.no_grad():
        for tensor in tensors:
            tensor.fill_(3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(bound.encode(x).mean, q)
    assert any(isinstance(part, Gated | Modulated) for part in model.modules()) == (
        "rates" in MANY[many] and nets != "linear"
    )


def test_modes_checks_and_what_is_trained_are_kept() -> None:
    model = make("conv", **MANY["both"])
    model.checks_pixels = True
    model.decoder.requires_grad_(False)
    bound = model.train().at(**SETTINGS["both"])
    model.encoder.eval()
    folded = bound.folded()
    assert folded.training and folded.decoder.training and not folded.encoder.training and folded.checks_pixels
    assert not any(parameter.requires_grad for parameter in folded.decoder.parameters())
    folded.trace(torch.rand(4, *model.shape).round(), 1).log_weight.mean().backward()
    trained = [*folded.encoder.parameters(), *folded.posterior.parameters(), *folded.likelihood.parameters()]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(part.training for part in model.eval().at(**SETTINGS["both"]).folded().modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 6),
        nn.Linear(4, 6, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
    ],
    ids=str,
)
def test_factors_of_the_outputs_of_a_layer(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    x = torch.randn(3, 4) if isinstance(layer, nn.Linear) else torch.randn(3, 4, 5, 5)
    factors = torch.rand(6)
    with torch.no_grad():
        expected = layer(x) * factors.reshape(-1, *[1] * (x.ndim - 2))
        scale_outputs(layer, factors)
        torch.testing.assert_close(layer(x), expected)


class Own(MLP):
    """A network of a user's own, with the `forward` of `Net`."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None) -> None:
        super().__init__(in_shape, shape, hidden=[8, 8], activation="Tanh")


class Skips(Own):
    """A decoder whose input goes to more than one layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean(-1, keepdim=True)


class Labelled(Own):
    """An encoder that is conditioned on a label."""

    context_names = ("label",)


class Shares(Own):
    """A network with two layers of the same weights."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None) -> None:
        super().__init__(in_shape, shape)
        again = nn.Linear(8, 8)
        self.layers = nn.Sequential(*self.layers.children(), nn.Sequential(again), nn.Tanh(), nn.Sequential(again))


class Normalized(Own):
    """A network with a layer whose weight is computed from other parameters."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None) -> None:
        super().__init__(in_shape, shape)
        weight_norm(next(layer for layer in self.layers.children() if isinstance(layer, nn.Linear)))


class Bends(Net):
    """A decoder that begins with an activation."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None) -> None:
        super().__init__(in_shape, (8,), nn.Sequential(nn.Tanh(), nn.Linear(math.prod(in_shape), 8)))


class OwnPosterior(DiagonalNormalPosterior):
    """A posterior of a user's own."""


class OwnPrior(StandardNormal):
    """A prior of a user's own."""


class OwnLikelihood(Bernoulli):
    """A likelihood of a user's own."""


class OwnModel(VAE):
    """A model of a user's own."""


def test_parts_of_ones_own_are_folded_where_they_can_be() -> None:
    parts: dict[str, Any] = {
        "encoder": Own,
        "decoder": Own,
        "posterior": ResidualNormalPosterior,
        "likelihood": OwnLikelihood,
    }
    bound = make(**parts, **MANY["both"]).double().at(**SETTINGS["both"])
    folded = bound.folded()
    assert type(folded.posterior) is ResidualNormalPosterior and type(folded.encoder) is Own
    assert_same(folded, bound, rtol=1e-10)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"decoder": Skips}, "decoder=Skips: cannot be folded: the first of its `layers` must be a linear one"),
        ({"decoder": Bends}, "decoder=Bends: cannot be folded: the first of its `layers` must be a linear one"),
        ({"decoder": Normalized, "rates": None}, "decoder=ParametrizedLinear: cannot be folded: layers must be Linear"),
        ({"encoder": Normalized}, "encoder=ParametrizedLinear: cannot be folded: layers must be Linear, Conv2d"),
        ({"encoder": Shares}, "model=VAE: cannot be folded: some of its layers share their weights"),
        ({"posterior": OwnPosterior}, "posterior=OwnPosterior: cannot be folded; only DiagonalNormalPosterior or Res"),
        ({"prior": OwnPrior}, "prior=OwnPrior: cannot be folded; only StandardNormal itself can"),
        (
            {"decoder": TINY["linear"][1], "likelihood": OwnLikelihood},
            "likelihood=OwnLikelihood: cannot be folded: behind a decoder without layers only a likelihood of nelbo",
        ),
    ],
)
def test_parts_that_cannot_be_folded_are_refused(parts: dict[str, Any], message: str) -> None:
    arguments = {**MANY["both"], **parts}
    setting = {"latent_dim": 2} if parts.get("rates", RATES) is None else SETTINGS["both"]
    bound = make(**arguments).at(**setting)
    before = {name: value.clone() for name, value in bound.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        bound.folded()
    assert str(error.value).startswith(message)
    assert all(torch.equal(value, before[name]) for name, value in bound.state_dict().items())


def test_models_and_settings_that_cannot_be_folded_are_refused() -> None:
    own = OwnModel(
        shape=SHAPE,
        latent_dim=3,
        encoder=Own,
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=Own,
        likelihood=Bernoulli,
        **MANY["rates"],
    )
    labelled = make(encoder=Labelled, **MANY["rates"])
    for bound, message in (
        (make(**MANY["both"]).at(beta=0.5), "at.latent_dim=null: is missing: a model is folded at one value of each"),
        (make(**MANY["both"]).at(latent_dim=2), "at.beta=null: is missing: a model is folded at one value of each"),
        (make(**MANY["rates"]).at(), "at.beta=null: is missing"),
        (BoundModel(make_vae(), {}), "model=VAE: has nothing to fold: it is no VAE trained with rates=many or nest"),
        (own.at(beta=0.5), "model=OwnModel: has nothing to fold"),
        (BoundModel(labelled, {LOG_BETA: 0.0, "label": 1}), "context=label: cannot be folded; only beta and latent"),
    ):
        with pytest.raises(ConfigError) as error:
            bound.folded()
        assert str(error.value).startswith(message)


def test_the_shift_of_a_posterior_head_is_a_constant_of_its_config() -> None:
    features = torch.randn(4, 6)
    plain = DiagonalNormalPosterior((6,), 3)
    assert "log_scale_shift" not in plain.state_dict()
    shifted = DiagonalNormalPosterior((6,), 3, log_scale_shift=True)
    shifted.load_state_dict({**plain.state_dict(), "log_scale_shift": torch.tensor([0.0, -1.0, -2.0])})
    ratio = shifted(features).stddev / plain(features).stddev
    torch.testing.assert_close(ratio, torch.tensor([0.0, -1.0, -2.0]).exp().expand(4, 3))
    torch.testing.assert_close(shifted(features).mean, plain(features).mean)
    with pytest.raises(ConfigError, match="log_scale_shift=1: must be true or false"):
        DiagonalNormalPosterior((6,), 3, log_scale_shift=1)  # type: ignore[arg-type]
