"""A model that infers labels where they are unknown: its sums over classes, and a mixture of Gaussians in closed form.

Shapes: S samples, B batch, K classes, D latent dimensions, P pixels.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from nelbo.errors import ConfigError
from nelbo.evaluation.importance import importance
from nelbo.evaluation.imputation import imputation
from nelbo.heads import DiagonalNormalPosterior, FixedGaussian
from nelbo.models import Conditioning, MaskedInputs, SemiSupervisedVAE
from nelbo.nets import MLP
from nelbo.objectives import IWAE, NegativeELBO, SemiSupervisedELBO
from nelbo.priors import StandardNormal
from nelbo.trace import LabelLatent
from nelbo.training.batches import evaluation_trace, training_context
from tests.helpers.factors import (
    CODE_POSTERIORS,
    CODE_PRIORS,
    LATENT_DIM,
    LIKELIHOODS,
    NETS,
    POSTERIORS,
    PRIORS,
    SHAPE,
    images,
    make_vae,
)

CLASSES, COUNT, S = 3, 6, 2
LABEL = torch.tensor([0, 1, 2, -1, -1, -1])
LAYERS = ("modulation", "concatenation")


def label(**options: Any) -> Any:
    """A factory of `Conditioning` on a label."""
    defaults = {"names": ["label"], "kinds": {"label": CLASSES}, "embedding": None, "layers": "modulation"}
    return partial(Conditioning, **({**defaults, "prior": False} | options))


def make(
    posterior: str = "diagonal_normal",
    prior: str = "standard_normal",
    conditional_prior: bool = False,
    inputs: Any = None,
    **options: Any,
) -> SemiSupervisedVAE:
    """A tiny model, in eval mode, with random weights everywhere, so that every class has another p(x|z, y)."""
    encoder, decoder = NETS["mlp"]
    torch.manual_seed(0)
    model = SemiSupervisedVAE(
        shape=SHAPE,
        latent_dim=LATENT_DIM,
        encoder=encoder,
        posterior=(POSTERIORS | CODE_POSTERIORS)[posterior],
        prior=(PRIORS | CODE_PRIORS)[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS["bernoulli"],
        conditioning=label(prior=conditional_prior, **options),
        classifier=encoder,
        inputs=inputs,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


PARTS = [
    *(("diagonal_normal", "standard_normal", layers, prior) for layers in LAYERS for prior in (False, True)),
    ("flow_autoregressive", "standard_normal", "modulation", False),
    ("full_normal", "mixture", "concatenation", False),
    ("residual_normal", "flow_coupling", "modulation", False),
]


@pytest.mark.parametrize(("posterior", "prior", "layers", "conditional_prior"), PARTS)
def test_averages_are_exact_sums_over_classes(posterior: str, prior: str, layers: str, conditional_prior: bool) -> None:
    model, x = make(posterior, prior, conditional_prior, layers=layers), images("bernoulli", COUNT)
    trace = model.trace(x, S, {"label": LABEL})
    top, below = trace.latents
    assert isinstance(top, LabelLatent) and trace.log_px.shape == (S * CLASSES, COUNT)
    given = torch.arange(CLASSES).repeat(S)
    torch.testing.assert_close(top.z.squeeze(-2).argmax(-1), given[:, None].expand(-1, COUNT))
    # What the trace has at each class is p(x|z, y) and p(z|y) of the model bound to that class.
    q = model.classify(x)
    nelbo = torch.zeros(COUNT)
    for row, number in enumerate(given.tolist()):
        one = {"label": torch.full((COUNT,), number)}
        code = top.z[row]
        px = model.decode(code, below.z[row], context=one)
        torch.testing.assert_close(px.log_prob(x), trace.log_px[row])
        torch.testing.assert_close(
            model.log_prior(code[None], below.z[row][None])[0], below.log_p[row] - math.log(CLASSES)
        )
        weight = torch.where(LABEL >= 0, (LABEL == number).float(), q[:, number])
        kl_of_label = torch.where(LABEL >= 0, 0.0, q[:, number].log()) + math.log(CLASSES)
        nelbo += weight * (below.kl[row] + kl_of_label - trace.log_px[row]) / S
    torch.testing.assert_close(trace.over_samples(trace.kl - trace.log_px), nelbo)
    torch.testing.assert_close(trace.mean(trace.kl - trace.log_px), nelbo.mean())
    torch.testing.assert_close(NegativeELBO(beta=1.0, num_samples=S)(trace, 0).total, nelbo.mean())
    # The sum over the classes of an importance weight has no q(y|x): it is p(x, y, z) / q(z|x, y) alone.
    log_ratio = trace.log_px + below.log_p - below.log_q - math.log(CLASSES)
    possible = (LABEL < 0) | (LABEL == given[:, None])
    summed = torch.where(possible, log_ratio, -torch.inf).unflatten(0, (S, CLASSES)).logsumexp(1)
    torch.testing.assert_close(trace.log_weight, summed)


def test_the_encoder_has_each_class() -> None:
    """q(z|x, y) of a class is that of the model bound to it, whichever way the networks are given the class."""
    for layers in LAYERS:
        model, x = make(layers=layers), images("bernoulli", COUNT)
        (features,) = model.infer(x).below
        assert features.shape[:2] == (COUNT, CLASSES)
        for number in range(CLASSES):
            alone = model.encoder_features(x, {"label": torch.full((COUNT,), number)})
            torch.testing.assert_close(features[:, number], alone)


def test_the_mode_is_the_most_probable_class_or_the_known_one() -> None:
    model, x = make(), images("bernoulli", COUNT)
    trace = model.draw(x, model.infer(x, {"label": LABEL}), S, mode=True)
    top, below = trace.latents
    expected = torch.where(LABEL >= 0, LABEL, model.classify(x).argmax(-1))
    assert top.z.squeeze(-2).argmax(-1).tolist() == [expected.tolist()] and trace.weights is None
    features = model.encoder_features(x, {"label": expected})
    torch.testing.assert_close(below.z[0], model.posterior(features).mean)
    torch.testing.assert_close(trace.px.mean[0], model.decode(top.z[0], below.z[0]).mean)


def test_from_the_prior_of_upper_levels() -> None:
    model, x = make(conditional_prior=True), images("bernoulli", COUNT)
    for upper in (0, 1):
        trace = model.draw(x, model.infer(x), 4, prior_from=upper)
        assert trace.latents[1].q is trace.latents[1].p and trace.latents[1].kl.abs().max() < 1e-6
        assert (trace.latents[0].kl.abs().max() < 1e-6) == (upper == 0)
    assert model.draw(x, model.infer(x), 1, mode=True, prior_from=0).px.mean.shape == (1, COUNT, *SHAPE)


def test_samples_have_a_label_that_can_be_given() -> None:
    model = make(conditional_prior=True)
    torch.manual_seed(0)
    code, z = model.sample(3000)
    counts = code.sum((0, 1))
    assert code.shape == (3000, 1, CLASSES) and (counts - 1000).abs().max() < 4 * math.sqrt(3000 * 2 / 9)
    mean = model.conditioning.prior_of(StandardNormal((LATENT_DIM,), SHAPE)(model.encode), {"label": torch.arange(3)})
    for number in range(CLASSES):
        chosen = z[code[:, 0, number] == 1]
        error = mean.stddev[number] / math.sqrt(len(chosen))
        assert ((chosen.mean(0) - mean.mean[number]).abs() < 5 * error).all()
    bound = model.at(label=2)
    assert (bound.sample(5)[0].argmax(-1) == 2).all() and bound.generate(5).mean.shape == (5, *SHAPE)
    # A known label takes the place of that of z, as in pictures of one image with every class.
    swapped = model.decode(code[:4], z[:4], context={"label": torch.tensor([0, 1, 2, -1])})
    expected = model.decode(torch.cat([torch.eye(3)[:, None], code[3:4]]), z[:4])
    torch.testing.assert_close(swapped.mean, expected.mean)
    torch.testing.assert_close(
        model.unfold(code[:4], torch.zeros(4, LATENT_DIM))[1], mean.mean[code[:4].argmax(-1)[:, 0]]
    )
    vectors = model.features(code[:4], z[:4])
    assert vectors.shape == (4, CLASSES + LATENT_DIM) and model.features(code).shape[-1] == model.feature_size


def test_the_objective_trains_the_classifier_on_known_labels() -> None:
    model, x = make().train(), images("bernoulli", COUNT)
    objective = SemiSupervisedELBO(beta=0.5, classification=7.0, num_samples=S)
    torch.manual_seed(1)
    loss = objective(trace := model.trace(x, S, {"label": LABEL}), 0)
    log_q = model.classify(x).log()
    expected = -torch.stack([log_q[0, 0], log_q[1, 1], log_q[2, 2]]).mean()
    torch.testing.assert_close(loss.terms["classification"], expected.detach())
    plain = NegativeELBO(beta=0.5, num_samples=S)(trace, 0)
    torch.testing.assert_close(loss.total, plain.total + 7 * expected)
    loss.total.backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())
    assert model.class_logits.weight.grad.any() and next(model.encoder.parameters()).grad.any()
    torch.manual_seed(1)
    unknown = objective(model.trace(x, S, {"label": torch.full((COUNT,), -1)}), 0)
    torch.manual_seed(1)
    torch.testing.assert_close(unknown.total, NegativeELBO(beta=0.5, num_samples=S)(model.trace(x, S), 0).total)
    assert unknown.terms["classification"] == 0


def test_evaluation_withholds_the_label() -> None:
    from nelbo.data.arrays import Batch
    from nelbo.metrics.examples import LabelAccuracy

    model, x = make(), images("bernoulli", COUNT)
    batch = Batch(x, LABEL)
    assert training_context(model, batch)["label"] is LABEL
    trace = evaluation_trace(model, batch, S)
    assert "label" not in trace.context and not trace.label.known.any() and trace.withheld["label"] is LABEL
    metric = LabelAccuracy()
    metric.update(trace)
    right = (model.classify(x).argmax(-1) == LABEL)[:3].float().mean()
    torch.testing.assert_close(metric.compute(), right)


def test_what_does_not_go_together_is_refused() -> None:
    objective = SemiSupervisedELBO(beta=1.0, classification=1.0, num_samples=1)
    with pytest.raises(ConfigError, match="is for a model that infers a label"):
        objective.check(
            make_vae("mlp", "diagonal_normal", "standard_normal", "bernoulli").trace(images("bernoulli", 2))
        )
    assert not IWAE(num_samples=2).sums_over_classes
    for posterior, prior, options, message in (
        ("categorical", "uniform", {}, "posterior=CategoricalPosterior: makes codes of classes"),
        ("diagonal_normal", "standard_normal", {"kinds": {"label": [2]}}, "must be the name of one column of classes"),
        ("diagonal_normal", "vamp", {}, "prior=VampPrior: encodes each of its pseudo-inputs"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(posterior, prior, **options)
    with pytest.raises(ConfigError, match="classification=-1"):
        SemiSupervisedELBO(beta=1.0, classification=-1, num_samples=1)
    for wrong, problem in (
        (torch.tensor([0, CLASSES, -1, 0, 0, 0]), f"label must be from 0 to {CLASSES - 1}, or -1 if unknown"),
        (torch.zeros(2), "label has the labels of 2 examples, not of 6"),
    ):
        with pytest.raises(ValueError, match=problem):
            make().trace(images("bernoulli", COUNT), 1, {"label": wrong})
    with pytest.raises(ValueError, match="expected the label and z, got 1"):
        make().decode(torch.zeros(2, 1, CLASSES))


def test_unknown_pixels_are_left_out() -> None:
    """Their values change neither q(y|x) nor any p(x|z, y), and those of the others count as without a mask."""
    model = make(inputs=partial(MaskedInputs, mask=False))
    x, observed = images("bernoulli", COUNT), torch.rand(COUNT, *SHAPE) < 0.6
    values = {"label": LABEL, "observed": observed}
    traces = []
    for unknown in (0.0, 1.0):
        torch.manual_seed(0)
        traces.append(model.trace(torch.where(observed, x, unknown), S, values))
    torch.testing.assert_close(traces[0].log_px, traces[1].log_px)
    torch.testing.assert_close(traces[0].kl, traces[1].kl)
    zs = [latent.z for latent in traces[0].latents]
    plain = torch.distributions.Bernoulli(model.decode(*zs).mean).log_prob(torch.where(observed, x, 0.0))
    torch.testing.assert_close(traces[0].log_px, (plain * observed).flatten(2).sum(-1))


PIXELS, FACTORS = 4, 2


def linear_model(shape: tuple[int, ...] = (1, 1, 4), inputs: Any = None) -> SemiSupervisedVAE:
    """A linear model of P numbers in float64: p(x) is a mixture of K Gaussians with shared covariance."""
    torch.manual_seed(0)
    net = partial(MLP, hidden=[], activation="Identity")
    model = SemiSupervisedVAE(
        shape=shape,
        latent_dim=FACTORS,
        encoder=net,
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=net,
        likelihood=partial(FixedGaussian, sigma=0.7),
        conditioning=label(layers="concatenation"),
        classifier=net,
        inputs=inputs,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn_like(parameter))
        for parameter in model.posterior.parameters():
            parameter.zero_()  # q(z|x, y) is p(z), which is wide enough for importance samples
    return model.eval()


@torch.no_grad()
def components(model: SemiSupervisedVAE) -> MultivariateNormal:
    """p(x|y) of every class, batch shape (K,)."""
    codes = torch.eye(CLASSES, dtype=torch.float64).unsqueeze(-2)
    means = model.decode(codes, torch.zeros(CLASSES, FACTORS, dtype=torch.float64)).mean.flatten(1)
    basis = torch.eye(FACTORS, dtype=torch.float64)
    columns = model.decode(codes[:1].expand(FACTORS, -1, -1), basis).mean.flatten(1) - means[0]
    return MultivariateNormal(means, columns.T @ columns + 0.49 * torch.eye(PIXELS, dtype=torch.float64))


@torch.no_grad()
def test_missing_values_are_imputed_by_the_classes_that_the_others_suggest() -> None:
    """The conditional mean of a mixture of Gaussians, in closed form."""
    model = linear_model((PIXELS,), partial(MaskedInputs, mask=False))
    exact = components(model)
    x = exact.sample((2,)).flatten(0, 1)
    observed = torch.tensor([True, True, False, True]).expand_as(x)
    part = observed[0]
    covariance = exact.covariance_matrix[0]
    across = torch.linalg.solve(covariance[part][:, part], covariance[part][:, ~part])
    means = exact.mean[:, ~part] + (x[:, None, part] - exact.mean[:, part]) @ across  # (B, K, 1)
    of_observed = MultivariateNormal(exact.mean[:, part], covariance[part][:, part])
    share = of_observed.log_prob(x[:, None, part]).softmax(-1)
    expected = (share.unsqueeze(-1) * means).sum(1)
    spread = means.amax(1) - means.amin(1)
    assert (spread > 1).any()  # the classes disagree
    torch.manual_seed(0)
    result = imputation(model, torch.where(observed, x, 0.0), {"observed": observed}, 40_000)
    torch.testing.assert_close(result.mean[:, ~part], expected, atol=0.05, rtol=0.02)
    known = {"observed": observed, "label": torch.arange(COUNT) % CLASSES}
    result = imputation(model, torch.where(observed, x, 0.0), known, 40_000)
    of_class = means[torch.arange(COUNT), torch.arange(COUNT) % CLASSES]
    torch.testing.assert_close(result.mean[:, ~part], of_class, atol=0.05, rtol=0.02)


@torch.no_grad()
def test_the_linear_model_is_a_mixture_of_gaussians() -> None:
    """Importance sampling gives log p(x) where the label is unknown, and log p(x, y) where it is known."""
    model = linear_model()
    exact = components(model)
    x = exact.sample((2,)).flatten(0, 1).reshape(COUNT, 1, 1, PIXELS)
    joint = exact.log_prob(x.flatten(1)[:, None]) - math.log(CLASSES)  # (B, K)
    for known, truth in (
        (torch.full((COUNT,), -1), joint.logsumexp(-1)),
        (torch.arange(COUNT) % CLASSES, joint[torch.arange(COUNT), torch.arange(COUNT) % CLASSES]),
    ):
        torch.manual_seed(2)
        result = importance(model, x, 20_000, inference=model.infer(x, {"label": known}))
        error = (1 / result.effective_samples - 1 / 20_000).clamp_min(0).sqrt()
        assert (result.effective_samples > 200).all()
        assert ((result.log_likelihood - truth).abs() < 3 * error + 1e-4).all(), (result.log_likelihood, truth, error)
    # The bound lies below, by KL(q(z, y|x) || p(z, y|x)).
    trace = model.trace(x, 2000)
    elbo: Tensor = trace.over_samples(trace.log_px - trace.kl)
    assert (elbo < joint.logsumexp(-1) + 0.05).all()
