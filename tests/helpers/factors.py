"""Every posterior, prior, likelihood, network and objective with arguments for tiny models.

A new implementation is tested by adding a line here.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nelbo.heads import (
    Bernoulli,
    Beta,
    Categorical,
    CategoricalPosterior,
    ContinuousBernoulli,
    DeterministicPosterior,
    DiagonalNormalPosterior,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    FixedGaussian,
    FlowPosterior,
    FullNormalPosterior,
    Laplace,
    LaplacePosterior,
    LearnedGaussian,
    OptimalGaussian,
    PerChannelGaussian,
    PerPixelGaussian,
    ResidualNormalPosterior,
    VectorQuantizedPosterior,
)
from nelbo.models import VAE
from nelbo.nets import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    GatedMLP,
    ResidualConvDecoder,
    ResidualConvEncoder,
    ResidualMLP,
)
from nelbo.nets.flows import KINDS
from nelbo.objectives import (
    CIWAE,
    DIP,
    IWAE,
    MIWAE,
    PIWAE,
    STL,
    WAE,
    BetaTC,
    Capacity,
    DReG,
    FactorVAE,
    FreeBits,
    InfoVAE,
    NegativeELBO,
    Objective,
    Reconstruction,
    VectorQuantized,
)
from nelbo.priors import Autoregressive, DiagonalNormal, Flow, Mixture, StandardNormal, Uniform, VampPrior
from nelbo.priors import Categorical as CategoricalPrior
from nelbo.schedules import Linear

SHAPE = (1, 6, 5)
LATENT_DIM = 3
LEVELS = 17

POSTERIORS = {
    "diagonal_normal": DiagonalNormalPosterior,
    "residual_normal": ResidualNormalPosterior,
    "full_normal": FullNormalPosterior,
    "laplace": LaplacePosterior,
    **{f"flow_{kind}": partial(FlowPosterior, context=2, kind=kind, layers=2, hidden=[8]) for kind in KINDS},
    "deterministic": DeterministicPosterior,
}
CODE_POSTERIORS = {
    "categorical": partial(CategoricalPosterior, classes=4, temperature=0.67, straight_through=False),
    "vector_quantized": partial(VectorQuantizedPosterior, classes=5, decay=0.9, dead_below=0.1),
}
"""Posteriors whose latents are one-hot codes instead of vectors."""

PRIORS = {
    "standard_normal": StandardNormal,
    "diagonal_normal": DiagonalNormal,
    "mixture": partial(Mixture, components=4),
    "vamp": partial(VampPrior, components=5, from_data=True),
    **{f"flow_{kind}": partial(Flow, kind=kind, layers=2, hidden=[8]) for kind in KINDS},
}
CODE_PRIORS = {
    "uniform": Uniform,
    "categorical": CategoricalPrior,
    "autoregressive": partial(Autoregressive, width=8, layers=1, heads=2),
}
LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": LearnedGaussian,
    "gaussian_fixed": partial(FixedGaussian, sigma=0.3),
    "gaussian_scheduled": partial(FixedGaussian, sigma=Linear(steps=10, start=1.0, end=0.2)),
    "gaussian_per_pixel": PerPixelGaussian,
    "gaussian_per_channel": PerChannelGaussian,
    "gaussian_optimal": OptimalGaussian,
    "discretized_logistic": partial(DiscretizedLogistic, levels=LEVELS),
    "discretized_gaussian": partial(DiscretizedGaussian, levels=LEVELS),
    "discretized_logistic_mixture": partial(DiscretizedLogisticMixture, levels=LEVELS, components=3),
    "categorical": partial(Categorical, levels=LEVELS),
    "laplace": Laplace,
    "beta": partial(Beta, levels=LEVELS),
}
_BLOCKS = {"activation": "GELU", "last": "scaled", "checkpoint_activations": False}
_residual_mlp = partial(ResidualMLP, width=8, depth=2, hidden=None, **_BLOCKS)
_residual_encoder = partial(ResidualConvEncoder, channels=[4, 4], depth=[0, 1], form="light", **_BLOCKS)
_residual_decoder = partial(
    ResidualConvDecoder,
    channels=[4, 4],
    depth=[1, 0],
    form="light",
    upsampling="shuffle",
    resolution="half",
    features=3,
    **_BLOCKS,
)
NETS = {
    "mlp": (partial(MLP, hidden=[8], activation="Tanh"), partial(MLP, hidden=[8], activation="Tanh")),
    "linear": (partial(MLP, hidden=[], activation="Identity"), partial(MLP, hidden=[], activation="Identity")),
    "conv": (
        partial(ConvEncoder, channels=[4, 4], activation="SiLU"),
        partial(ConvDecoder, channels=[4, 4, 3], activation="SiLU"),
    ),
    "residual_mlp": (partial(_residual_mlp, center=True), partial(_residual_mlp, center=False)),
    "gated_mlp": (partial(GatedMLP, hidden=[8], center=True), partial(GatedMLP, hidden=[8], center=False)),
    "residual_conv": (partial(_residual_encoder, center=True), _residual_decoder),
}
CONVOLUTIONAL = {"conv", "residual_conv"}
"""Networks whose features are images, so that all pixels share the parameters of the likelihood head."""
OBJECTIVES = {
    "elbo": partial(NegativeELBO, beta=1.0, num_samples=2),
    "reconstruction": partial(Reconstruction, num_samples=2),
    "iwae": partial(IWAE, num_samples=2),
    "miwae": partial(MIWAE, num_samples=4, groups=2),
    "ciwae": partial(CIWAE, num_samples=2, elbo_share=0.5),
    "dreg": partial(DReG, num_samples=2),
    "piwae": partial(PIWAE, num_samples=4, groups=2),
    "stl": partial(STL, beta=1.0, num_samples=2),
    "free_bits": partial(FreeBits, beta=1.0, free_bits=0.0, per="level", num_samples=2),
    "capacity": partial(Capacity, gamma=2.0, capacity=0.1, num_samples=2),
    "vq_vae": partial(VectorQuantized, commitment=0.25, num_samples=2),
    "beta_tc": lambda: prepared(BetaTC(alpha=1.0, beta=6.0, gamma=2.0, estimator="weighted", num_samples=2)),
    "dip": partial(DIP, beta=1.0, variant="ii", lambda_off_diagonal=10.0, lambda_diagonal=5.0, num_samples=2),
    "info": partial(InfoVAE, alpha=0.5, mmd_weight=10.0, kernel="rbf", scales=[0.5, 1], num_samples=2),
    "wae": partial(WAE, mmd_weight=10.0, kernel="imq", scales=[0.5, 1], num_samples=2),
    "factor": partial(
        FactorVAE,
        gamma=10.0,
        latent_dim=LATENT_DIM,
        hidden=[8],
        discriminator_lr=1e-3,
        discriminator_betas=[0.5, 0.9],
        num_samples=2,
    ),
}


IMPORTANCE_WEIGHTED = {"iwae", "miwae", "ciwae", "dreg", "piwae", "stl"}
"""Objectives that need importance weights with gradients."""


def prepared(objective: Objective) -> Objective:
    """Set the number of training images of an objective to 100 and return it."""
    objective.prepare(100)
    return objective


def refusal(posterior: str, prior: str, objective: str = "elbo") -> str | None:
    """Return a pattern of the error message for an unsupported combination, or None if it is supported.

    Args:
        posterior: a key of `POSTERIORS` or `CODE_POSTERIORS`.
        prior: a key of `PRIORS` or `CODE_PRIORS`.
        objective: a key of `OBJECTIVES`; with any other name only posterior and prior are considered.
    """
    over_codes = prior in CODE_PRIORS
    if over_codes != (posterior in CODE_POSTERIORS):
        return f"prior={prior.partition('_')[0]}.*: is a prior over {'one-hot codes' if over_codes else 'vectors'}, but"
    if prior == "vamp" and posterior in ("deterministic", "flow_autoregressive"):
        return "prior=vamp: is a mixture of q"
    if objective == "vq_vae" and posterior != "vector_quantized":
        return "objective=vq_vae: needs latents quantised to a codebook"
    has_kl = objective in OBJECTIVES and objective not in ("reconstruction", "wae", "vq_vae")
    if has_kl and posterior == "deterministic":
        return f"objective={objective}: posterior=deterministic has no log q"
    if has_kl and (posterior, prior) == ("categorical", "autoregressive"):
        return f"objective={objective}: posterior=categorical needs a KL in closed form"
    if objective in IMPORTANCE_WEIGHTED and posterior in CODE_POSTERIORS:
        return f"objective={objective}: one-hot samples have no reparameterised density"
    factorised = ("diagonal_normal", "residual_normal", "laplace")
    independent = posterior in factorised and prior in ("standard_normal", "diagonal_normal")
    if objective == "beta_tc" and not independent:
        return "objective=beta_tc: needs continuous latents with independent units"
    if objective == "dip" and posterior.startswith(("flow", *CODE_POSTERIORS)):
        return r"objective=dip: needs a q\(z\|x\) with a mean and a covariance"
    if objective == "factor" and posterior in CODE_POSTERIORS:
        return "objective=factor: needs continuous latents, but z are one-hot codes"
    if objective in ("info", "wae", "reconstruction") and posterior in CODE_POSTERIORS:
        return f"objective={objective}: needs continuous latents, but z are one-hot codes"
    if objective in ("free_bits", "capacity") and posterior == "vector_quantized":
        return f"objective={objective}: weights the KL, which trains only the prior"
    if objective in ("info", "wae") and prior != "standard_normal":
        return f"objective={objective}: uses an MMD, which does not train the prior"
    if objective == "reconstruction" and prior != "standard_normal":
        return "objective=reconstruction: has no KL, so nothing would train the prior"
    return None


def make_vae(
    nets: str = "mlp",
    posterior: str = "diagonal_normal",
    prior: str = "standard_normal",
    likelihood: str = "gaussian",
    shape: tuple[int, ...] = SHAPE,
    latent_dim: int = LATENT_DIM,
) -> VAE:
    """Return a tiny VAE of the named components."""
    encoder, decoder = NETS[nets]
    return VAE(
        shape=shape,
        latent_dim=latent_dim,
        encoder=encoder,
        posterior=(POSTERIORS | CODE_POSTERIORS)[posterior],
        prior=(PRIORS | CODE_PRIORS)[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS[likelihood],
    )


def images(likelihood: str = "gaussian", count: int = 7, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Return random images, (count, *shape), in the support of a likelihood."""
    x = torch.rand(count, *shape)
    discrete = {"discretized_logistic", "discretized_gaussian", "discretized_logistic_mixture", "categorical"}
    steps = {"bernoulli": 1, **dict.fromkeys(discrete, LEVELS - 1)}.get(likelihood)
    return (x * steps).round() / steps if steps else x
