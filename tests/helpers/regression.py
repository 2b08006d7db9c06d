"""Numbers of small models with one level of latents, to notice when a change of the code changes any of them.

Shapes: N images, S samples, B batch. Log-probabilities and KLs are in nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.errors import ConfigError
from nelbo.evaluation import AIS, ELBO, KID, NLL, ActiveUnits, Collapse, Gaps, Information, Silhouette, TotalCorrelation
from nelbo.evaluation.measure import Measure, NotApplicable
from nelbo.evaluation.refinement import fit
from nelbo.metrics import KLPerUnit, MutualInformation, standard_metrics
from nelbo.models import VAE
from nelbo.objectives import Capacity, FreeBits, NegativeELBO, Objective
from nelbo.pictures import Interpolation, Manifold, Picture, Reconstructions, Samples, Traversal
from nelbo.schedules import Linear
from nelbo.trace import Trace
from tests.helpers.factors import OBJECTIVES, images, make_vae
from tests.helpers.measures import Pixels
from tests.helpers.recorded import SINGLE, Value, one_thread, plain, tensors
from tests.helpers.scenes import make_scene
from tests.helpers.subjects import make_subject

SHAPE = (1, 8, 8)
COUNT = 54
"""N; the linear theory that `Collapse` compares with needs 50 images."""

BATCH = 7
STEP = 5
"""The optimiser step at which the first loss is computed, so that schedules are between their ends."""

SKIPPED = "not applicable"

OWN_OBJECTIVES: Mapping[str, Callable[[], Objective]] = {
    "warm_up": partial(NegativeELBO, beta=Linear(steps=20, start=0.0, end=1.0), num_samples=2),
    "free_bits": partial(FreeBits, beta=1.0, free_bits=0.1, per="unit", num_samples=2),
    "capacity": partial(Capacity, gamma=2.0, capacity=Linear(steps=20, start=0.0, end=4.0), num_samples=2),
}
"""Objectives with a schedule or a threshold, in addition to, or in place of, those of `OBJECTIVES`."""

MEASURES: Mapping[str, Measure] = {
    "elbo": ELBO(num_samples=3, limit=6),
    "nll": NLL(num_samples=20, limit=6, log_weights=False),
    "nll_with_tail": NLL(num_samples=120, limit=6, log_weights=False),
    "ais": AIS(num_chains=2, num_temperatures=6, num_leapfrog_steps=2, limit=4, num_simulated=3),
    "gaps": Gaps(num_steps=6, lr=0.05, gradient_samples=2, num_samples=110, limit=4),
    "information": Information(num_samples=2, limit=12, flow_limit=8),
    "collapse": Collapse(limit=20, kl_threshold=0.01),
    "active_units": ActiveUnits(limit=20),
    "total_correlation": TotalCorrelation(num_samples=2, limit=12),
    "silhouette": Silhouette(limit=20),
    "kid": KID(
        extractor=Pixels(), num_generated=12, temperature=1.0, pixels="sample", limit=12, subsets=2, subset_size=5
    ),
}

PICTURES: Mapping[str, Picture] = {
    "samples": Samples(rows=2, columns=2, temperature=0.7, pixels="sample"),
    "reconstructions": Reconstructions(rows=2, columns=2),
    "interpolation": Interpolation(levels="all", rows=2, columns=3, path="spherical"),
    "traversal": Traversal(level=1, rows=2, columns=3, image=1, units=None),
    "manifold": Manifold(rows=2, columns=2, image=None, units=[0, 2]),
}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new parameters have a dtype: random numbers in float64 are the same on all processors up to rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Setting:
    """The names of the parts of a model and of its objective, as in `tests.helpers.factors`.

    Args:
        posterior: name of the posterior.
        prior: name of the prior.
        likelihood: name of the likelihood.
        objective: name of the objective.
        nets: name of the encoder and the decoder.
        dtype: of parameters and images.
        pictures: whether to draw `PICTURES`, which takes half a second.
    """

    posterior: str
    prior: str
    likelihood: str
    objective: str
    nets: str = "mlp"
    dtype: torch.dtype = torch.float64
    pictures: bool = False

    @property
    def name(self) -> str:
        """All names, joined."""
        return "-".join((self.nets, self.posterior, self.prior, self.likelihood, self.objective))

    def images(self) -> Tensor:
        """Return the images, (N, C, H, W)."""
        torch.manual_seed(1)
        return images(self.likelihood, COUNT, SHAPE).to(self.dtype)

    def model(self, x: Tensor) -> VAE:
        """Return an initialised model whose parameters are moved away from their special starting values."""
        torch.manual_seed(2)
        with default_dtype(self.dtype):
            model = make_vae(self.nets, self.posterior, self.prior, self.likelihood, SHAPE)
        model.initialize(x)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    def make_objective(self) -> Objective:
        """Return the objective."""
        with default_dtype(self.dtype):
            objective: Objective = {**OBJECTIVES, **OWN_OBJECTIVES}[self.objective]()
        objective.prepare(COUNT)
        return objective


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("diagonal_normal", "standard_normal", "bernoulli", "elbo", pictures=True),
        Setting("diagonal_normal", "diagonal_normal", "gaussian_scheduled", "warm_up", "linear"),
        Setting("diagonal_normal", "vamp", "gaussian", "iwae", "conv", pictures=True),
        Setting("full_normal", "vamp", "bernoulli", "ciwae"),
        Setting("full_normal", "mixture", "gaussian_optimal", "dreg"),
        Setting("laplace", "diagonal_normal", "continuous_bernoulli", "free_bits"),
        Setting("flow_autoregressive", "standard_normal", "gaussian", "stl"),
        Setting("flow_coupling", "flow_spline", "discretized_logistic_mixture", "capacity", pictures=True),
        Setting("diagonal_normal", "standard_normal", "discretized_logistic_mixture", "beta_tc"),
        Setting("full_normal", "standard_normal", "gaussian", "info"),
        Setting("laplace", "standard_normal", "bernoulli", "factor"),
        Setting("diagonal_normal", "flow_coupling", "gaussian", "dip", "conv"),
        Setting("deterministic", "standard_normal", "gaussian_optimal", "wae"),
        Setting("deterministic", "standard_normal", "continuous_bernoulli", "reconstruction"),
        Setting("categorical", "categorical", "bernoulli", "elbo", pictures=True),
        Setting(
            "vector_quantized", "autoregressive", "gaussian_optimal", "vq_vae", "conv", torch.float32, pictures=True
        ),
    )
}
"""Every setting by its name. The codebook of vector_quantized computes in float32 whatever the dtype of its input."""


@one_thread()
def measured(setting: Setting) -> dict[str, Value]:
    """Return the numbers of a setting by name, all from fixed seeds."""
    x = setting.images()
    model = setting.model(x)
    values = {"images": plain(x), **tensors("initial", model.state_dict().items())}
    values |= training(setting, model, x[:BATCH])
    model.eval().advance(math.inf)
    with torch.no_grad():
        values |= distributions(setting, model, x[:BATCH]) | generated(model)
    values |= refined(model, x[:4]) | findings(model, x)
    return values | (drawings(model, x) if setting.pictures else {})


def training(setting: Setting, model: VAE, x: Tensor) -> dict[str, Value]:
    """Return losses, logged terms and gradients of two steps of gradient descent on a batch."""
    objective = setting.make_objective()
    torch.manual_seed(3)
    with torch.no_grad():
        objective.check(model.eval().trace(x[:2], 1))
    model.train()
    trained = [*model.named_parameters(), *((f"objective.{key}", value) for key, value in objective.named_parameters())]
    descent = torch.optim.SGD([parameter for _, parameter in trained], lr=1e-3)
    values: dict[str, Value] = {}
    for step in (STEP, STEP + 1):
        values |= {f"training/{step}/{key}": plain(value) for key, value in model.advance(step).items()}
        loss = objective(model.trace(x, objective.num_samples), step)
        descent.zero_grad()
        loss.total.backward()
        values[f"training/{step}/loss"] = plain(loss.total)
        values |= {f"training/{step}/{key}": plain(value) for key, value in loss.terms.items()}
        gradients = [(key, parameter.grad) for key, parameter in trained if parameter.grad is not None]
        values |= tensors(f"training/{step}/gradient", gradients)
        descent.step()
    # The same after a change only if the steps drew as many random numbers as before.
    values["training/next_random_number"] = torch.rand(()).item()
    return values | tensors("trained", model.state_dict().items())


def distributions(setting: Setting, model: VAE, x: Tensor) -> dict[str, Value]:
    """Return what q(z|x), p(x|z) and p(x, z) of a batch are in eval mode, and the metrics of validation."""
    torch.manual_seed(4)
    values: dict[str, Value] = {"encode/mean": plain(mean_of(model.encode(x)))}
    torch.manual_seed(5)
    trace = model.trace(x, 3)
    zs = [latent.z for latent in trace.latents]
    values |= {f"trace/z{level}": plain(z) for level, z in enumerate(zs)}
    values["trace/log_px"] = plain(trace.log_px)
    if trace.has_kl:
        values |= {"trace/kl": plain(trace.kl), "trace/nelbo": plain((trace.kl - trace.log_px).mean(dim=0))}
    if trace.has_density:
        values["trace/log_weight"] = plain(trace.log_weight)
    values["log_joint"] = plain(model.log_joint(x, zs))
    values["decode/mean"] = plain(model.decode(zs[0]).mean)
    return values | metrics(setting, trace)


def metrics(setting: Setting, trace: Trace) -> dict[str, Value]:
    """Return the metrics of validation over a trace that is counted twice."""
    accumulated = standard_metrics(trace, "metrics/", dequantized_levels=None)
    own = {"kl_per_unit": KLPerUnit(trace)} if KLPerUnit.applies(trace) else {}
    own |= {"mutual_information": MutualInformation()} if MutualInformation.applies(trace) else {}
    for metric in (accumulated, *own.values()):
        for _ in range(2):
            metric.update(trace)
    values = {key: plain(value) for key, value in accumulated.compute().items()}
    values |= {f"metrics/{key}": plain(metric.compute()) for key, metric in own.items()}
    values["metrics/objective"] = plain(setting.make_objective()(trace, math.inf).total)
    return values


def generated(model: VAE) -> dict[str, Value]:
    """Return means and samples of p(x|z) at samples of the prior, at temperatures 1 and 0.7."""
    values: dict[str, Value] = {}
    for temperature in (1.0, 0.7):
        torch.manual_seed(6)
        try:
            px = model.generate(4, temperature)
        except NotImplementedError:
            values[f"generate/{temperature}"] = SKIPPED
            continue
        values[f"generate/{temperature}/mean"] = plain(px.mean)
        values[f"generate/{temperature}/sample"] = plain(px.sample())
    return values


def refined(model: VAE, x: Tensor) -> dict[str, Value]:
    """Return the mean of samples of each image's optimised q, after half of the steps and after all."""
    with torch.no_grad():
        (latent,) = model.trace(x, 1).latents
    if not (latent.has_density and latent.is_continuous):
        return {"refined": SKIPPED}
    torch.manual_seed(7)
    both = fit(model, x, num_steps=4, lr=0.05, gradient_samples=2)
    torch.manual_seed(8)
    with torch.no_grad():
        half, whole = (inference.q.sample(torch.Size((50,))).mean(dim=0) for inference in both)
    return {"refined/half": plain(half), "refined/whole": plain(whole)}


def findings(model: VAE, x: Tensor) -> dict[str, Value]:
    """Return the values of `MEASURES`, of all images together and of each."""
    values: dict[str, Value] = {}
    subject = make_subject(
        model, x, labels=torch.arange(COUNT) % 3, batch_size=5, config={"objective": {"beta": 1.0}}, seed=9
    )
    for name, measure in MEASURES.items():
        try:
            found = measure(subject)
        except NotApplicable:
            values[name] = SKIPPED
            continue
        values |= {f"{name}/{key}": plain(value) for key, value in found.values.items()}
        values |= {f"{name}/{key}/per_image": plain(value) for key, value in found.per_image.items()}
    return values


def drawings(model: VAE, x: Tensor) -> dict[str, Value]:
    """Return the tensors that `PICTURES` show, in float32, which some of them need."""
    values: dict[str, Value] = {}
    model, x = copy.deepcopy(model).float(), x.float()
    for name, picture in PICTURES.items():
        torch.manual_seed(10)
        try:
            with torch.no_grad():
                drawing = picture(make_scene(model, x[:20]))
        except (ConfigError, NotImplementedError):
            values[name] = SKIPPED
            continue
        values |= {f"{SINGLE}{name}/{key}": plain(value) for key, value in drawing.arrays.items()}
    return values
