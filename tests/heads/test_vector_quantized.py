"""Vector-quantized posteriors: rounding to a codebook, its updates, its gradients, and runs that use it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.distributions import Quantized
from nelbo.errors import ConfigError
from nelbo.heads import VectorQuantizedPosterior, compat
from nelbo.heads.vector_quantized import replace_dead
from nelbo.metrics import standard_metrics
from nelbo.models import VAE
from nelbo.nets import ConvDecoder
from nelbo.numerics import devices
from nelbo.objectives import IWAE, NegativeELBO, VectorQuantized
from nelbo.schedules import Linear
from tests.helpers.codebook import CLASSES, DIMENSION, FEATURES, codebook, make_head, one_step
from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.factors import SHAPE, images, make_vae
from tests.helpers.forks import ROOT, train_all


@pytest.fixture(params=["library", "device"])
def replacing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead entries are replaced by the library, as on the CPU, and without reading values, as on other devices."""
    if request.param == "device":
        monkeypatch.setattr(devices, "reads_freely", lambda device: False)


def trained_head() -> VectorQuantizedPosterior:
    """Return a posterior with distinct entries, in evaluation mode. It has 6 positions, and 6 entries."""
    head = make_head()
    head(torch.randn(50, *FEATURES))
    return head.eval()


def make_model(prior: str = "uniform") -> VAE:
    model = make_vae("conv", "vector_quantized", prior, "bernoulli")
    model.trace(images("bernoulli", 20))
    return model.eval()


def test_vectors_are_rounded_to_the_nearest_entry() -> None:
    head, features = trained_head(), torch.randn(20, *FEATURES)
    q = head(features)
    weight, bias = head.project.layers[0].weight[:, :, 0, 0], head.project.layers[0].bias
    entries = codebook(head)
    for example, row, column in ((0, 0, 0), (3, 1, 1), (7, 2, 0), (19, 2, 1)):
        vector, position = weight @ features[example, :, row, column] + bias, row * 2 + column
        torch.testing.assert_close(q.vectors[example, position], vector)
        chosen = (vector - entries).square().sum(-1).argmin()
        assert torch.equal(q.code[example, position], torch.eye(CLASSES)[chosen])
        assert torch.equal(q.quantized[example, position], entries[chosen])
    nearest = (q.vectors.unsqueeze(-2) - entries).square().sum(-1).min(-1).values.sum(-1)
    torch.testing.assert_close(q.commitment, nearest)
    assert q.code.sum((0, 1)).count_nonzero() > 2  # more than one entry is in use


def test_decoder_input_has_the_entries_at_their_positions() -> None:
    head = trained_head()
    q = head(torch.randn(7, *FEATURES))
    z = q.sample(torch.Size((2,)))
    embedded = head.embed(z)
    assert embedded.shape == (2, 7, DIMENSION, 3, 2)
    for row, column in itertools.product(range(3), range(2)):
        assert torch.equal(embedded[1, :, :, row, column], codebook(head)[z[1, :, 2 * row + column].argmax(-1)])
    assert torch.equal(head.embed(z, q), embedded)  # bit for bit
    assert head.event_shape(DIMENSION) == (6, CLASSES) and head.code_shape(DIMENSION) == (DIMENSION, 3, 2)


def test_flat_features_have_one_code() -> None:
    head = make_head(features=(8,))
    q = head(torch.randn(9, 8))
    z = q.sample(torch.Size((2,)))
    assert z.shape == (2, 9, 1, CLASSES) and head.embed(z, q).shape == head.embed(z).shape == (2, 9, DIMENSION)
    assert head.event_shape(DIMENSION) == (1, CLASSES) and head.code_shape(DIMENSION) == (DIMENSION,)


def test_gradient_passes_the_rounding_unchanged() -> None:
    head = trained_head().train()
    q = head(torch.randn(7, *FEATURES))
    embedded, weight = head.embed(q.sample(torch.Size((3,))), q), torch.randn(3, 7, DIMENSION, 3, 2)
    (gradient,) = torch.autograd.grad((weight * embedded).sum(), q.vectors)
    torch.testing.assert_close(gradient, weight.sum(0).flatten(2).mT)
    assert torch.equal(embedded[0].flatten(2).mT, q.quantized)


def test_posterior_is_a_point_mass_on_the_code() -> None:
    q = trained_head()(torch.randn(7, *FEATURES))
    other = q.code.clone()
    other[0, 0] = other[0, 0].roll(1)
    assert q.log_prob(q.sample(torch.Size((2,)))).tolist() == [[0.0] * 7] * 2
    assert q.log_prob(other).tolist() == [-math.inf] + [0.0] * 6
    assert torch.equal(q.mean, q.code)


@pytest.mark.usefixtures("replacing")
def test_codebook_follows_a_moving_average_in_training_only() -> None:
    head = trained_head()
    state = {name: value.clone() for name, value in head.state_dict().items()}
    features = torch.randn(50, *FEATURES)
    head(features)
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
    q = head.train()(features)
    assert torch.equal(q.quantized, q.code @ state["quantizer._codebook.embed"][0])  # the entries before the update
    sizes = 0.9 * state["quantizer._codebook.cluster_size"][0] + 0.1 * q.code.sum((0, 1))
    sums = 0.9 * state["quantizer._codebook.embed_avg"][0] + 0.1 * torch.einsum("bnk,bnd->kd", q.code, q.vectors)
    assert sizes.min() > 0.1  # no entry is dead
    torch.testing.assert_close(codebook(head), (sums / sizes.unsqueeze(-1)).detach(), rtol=1e-3, atol=1e-4)
    assert all(not name.startswith("quantizer") for name, _ in head.named_parameters())


@pytest.mark.usefixtures("replacing")
def test_initial_and_dead_entries_are_replaced_by_vectors_of_the_batch() -> None:
    head = make_head()
    q = head(torch.randn(2, *FEATURES))
    vectors, chosen = q.vectors.flatten(0, 1).detach(), q.code.flatten(0, 1)
    count = chosen.sum(0)
    means = (chosen.T @ vectors)[count > 0] / count[count > 0].unsqueeze(-1)
    assert len(means) < CLASSES  # some entries are nearest to no vector, and are dead
    candidates = torch.cat([means, vectors])
    assert ((codebook(head).unsqueeze(1) - candidates).abs().sum(-1).min(-1).values < 1e-3).all()
    head.quantizer.codebook[2] = 100.0  # far from all vectors
    state = compat.codebook(head.quantizer)
    state.embed_avg[:, 2], state.cluster_size[:, 2] = 10.0, 0.1
    vectors = head(torch.randn(20, *FEATURES)).vectors.flatten(0, 1).detach()
    assert (codebook(head)[2] - vectors).abs().sum(-1).min() < 1e-5


@pytest.mark.usefixtures("replacing")
def test_initial_entries_are_distinct() -> None:
    """Nine images in ten are empty and have the same vector; the other one has 6 vectors, enough for 6 entries."""
    head, features = make_head(), torch.zeros(10, *FEATURES)
    features[0] = torch.randn(FEATURES)
    head(features)
    entries = codebook(head)
    assert (entries.unsqueeze(1) - entries).abs().sum(-1).add(torch.eye(CLASSES)).min() > 1e-3


def test_dead_entries_are_replaced_by_each_distinct_vector_equally_often() -> None:
    """Of 4 distinct vectors, one of them 20 times in the batch, 3 replace the dead entries."""
    torch.manual_seed(0)
    vectors = torch.cat([torch.eye(DIMENSION)[:4], torch.eye(DIMENSION)[:1].expand(19, -1)])
    counts, rounds = torch.zeros(4), 400
    for _ in range(rounds):
        state = compat.codebook(make_head().quantizer)
        state.cluster_size[0], state.embed[0] = torch.tensor([0.0, 5.0, 0.05, 5.0, 5.0, 0.0]), 7.0
        replace_dead(state, vectors, 0.1)
        assert (state.embed[0, [1, 3, 4]] == 7).all() and (state.cluster_size[0, [1, 3, 4]] == 5).all()
        torch.testing.assert_close(state.cluster_size[0, [0, 2, 5]], torch.full((3,), 0.1))
        assert torch.equal(state.embed_avg[0, [0, 2, 5]], 0.1 * state.embed[0, [0, 2, 5]])
        counts += state.embed[0, [0, 2, 5], :4].sum(0)
        assert state.embed[0, [0, 2, 5]].unique(dim=0).shape == (3, DIMENSION)
    deviation = math.sqrt(rounds * 3 / 4 * 1 / 4)
    assert (counts - rounds * 3 / 4).abs().max() < 4 * deviation


def test_vectors_are_used_in_turn_if_there_are_more_dead_entries() -> None:
    state = compat.codebook(make_head().quantizer)
    state.cluster_size.zero_()
    replace_dead(state, torch.eye(DIMENSION)[:2].repeat(3, 1), 0.1)
    assert state.embed[0, :, :2].sum(0).tolist() == [3, 3]


@pytest.mark.parametrize(("key", "value"), [("classes", 1), ("decay", 1.0), ("decay", -0.1), ("dead_below", 0)])
def test_invalid_options_raise(key: str, value: float) -> None:
    options = {"classes": 8, "decay": 0.9, "dead_below": 0.1, key: value}
    with pytest.raises(ConfigError, match=f"^{key}={value}: "):
        VectorQuantizedPosterior(FEATURES, DIMENSION, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("prior", ["uniform", "categorical", "autoregressive"])
def test_elbo_is_the_log_joint_and_the_objective_adds_the_commitment(prior: str) -> None:
    model, x = make_model(prior), images("bernoulli", 9)
    trace = model.trace(x, 2)
    log_joint = model.log_joint(x, [trace.latents[0].z])
    elbo, loss = (
        NegativeELBO(beta=1.0, num_samples=2)(trace, 0),
        VectorQuantized(commitment=0.25, num_samples=2)(trace, 0),
    )
    torch.testing.assert_close(elbo.total, -log_joint.mean())
    torch.testing.assert_close(loss.terms["nelbo"], -log_joint.mean().detach())
    q = trace.latents[0].q
    assert isinstance(q, Quantized)
    commitment = 0.25 * ((q.vectors - q.code @ model.posterior.quantizer.codebook) ** 2).sum() / 9  # type: ignore[operator, union-attr]
    torch.testing.assert_close(loss.terms["commitment"], commitment.detach())
    torch.testing.assert_close(loss.total, loss.terms["nelbo"] + commitment)
    scheduled = VectorQuantized(commitment=Linear(steps=10, end=0.25), num_samples=2)
    assert scheduled(trace, 0).terms["commitment"] == 0
    torch.testing.assert_close(scheduled(trace, math.inf).total, loss.total)


def test_bits_per_dim_include_the_codes() -> None:
    """They are (-log p(x|code) + N log K) / (C H W log 2)."""
    model, x = make_model(), images("bernoulli", 9)
    trace = model.trace(x)
    metrics = standard_metrics(trace, "test/", dequantized_levels=None)
    metrics.update(trace)
    values = metrics.compute()
    pixels = model.decode(trace.latents[0].z[0]).mean.detach()  # the probability that a pixel is 1
    nats = -torch.where(x == 1, pixels, 1 - pixels).log().sum((1, 2, 3)).mean() + 4 * math.log(5)
    torch.testing.assert_close(values["test/bits_per_dim"], nats / (math.prod(SHAPE) * math.log(2)))
    torch.testing.assert_close(values["test/kl"], torch.tensor(4 * math.log(5)))


def test_objectives_reject_unsuitable_posteriors() -> None:
    with pytest.raises(ConfigError, match="^objective=vq_vae: needs latents quantised to a codebook"):
        VectorQuantized(commitment=0.25, num_samples=1).check(make_vae().trace(images()))
    with pytest.raises(ConfigError, match="^objective=iwae: one-hot samples have no reparameterised density"):
        IWAE(num_samples=2).check(make_model().trace(images("bernoulli")))
    with pytest.raises(ConfigError, match="^commitment=-1: "):
        VectorQuantized(commitment=-1, num_samples=1)


def test_distances_and_entries_are_float32_under_autocast() -> None:
    model, x = make_model(), images("bernoulli", 9)
    exact = model.posterior(model.encoder(x).bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encoder(x)
        trace, embedded = model.trace(x), model.posterior.embed(exact.code)
    q = trace.latents[0].q
    assert isinstance(q, Quantized) and features.dtype == torch.bfloat16
    assert q.vectors.dtype == q.quantized.dtype == q.code.dtype == torch.float32
    entries = model.posterior.quantizer.codebook  # type: ignore[union-attr]
    assert torch.equal(q.quantized, entries[q.code.argmax(-1)])  # type: ignore[index]
    assert torch.equal(embedded, model.posterior.embed(exact.code)) and embedded.dtype == torch.float32
    nearest = (q.vectors.unsqueeze(-2) - entries).square().sum(-1).argmin(-1)  # type: ignore[operator]
    assert torch.equal(nearest, q.code.argmax(-1))


def test_decoder_of_an_image_code_starts_with_a_convolution_and_of_other_codes_does_not() -> None:
    make = partial(ConvDecoder, target_shape=(1, 12, 8), channels=[4, 4, 3], activation="SiLU")
    assert make((5, 3, 2)).layers[0].weight.shape == (4, 5, 1, 1)  # type: ignore[index]
    assert make((5, 3, 2))(torch.randn(2, 7, 5, 3, 2)).shape == (2, 7, 3, 12, 8)
    for shape in ((5,), (5, 6), (5, 2, 3)):
        assert make(shape).layers[1].weight.shape == (24, math.prod(shape))  # type: ignore[index]


@pytest.mark.parametrize("place", ["library", "device"])
def test_processes_have_the_same_codebook(tmp_path: Path, place: str) -> None:
    code = "import sys; from tests.helpers.codebook import one_step; one_step(2, int(sys.argv[1]), *sys.argv[2:])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(tmp_path), place], cwd=ROOT) for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    (tmp_path / "meeting").unlink(missing_ok=True)
    one_step(1, 0, str(tmp_path))
    (first, second), others, (single, _) = (torch.load(tmp_path / f"{name}.pt") for name in ("2-0", "2-1", "1-0"))
    assert torch.equal(first, others[0]) and torch.equal(second, others[1])
    torch.testing.assert_close(first, single)
    assert not torch.allclose(first[:3], second[:3])


RUNS = {
    "vq_vae": ["model=vq_vae"],
    "elbo": ["model=vq_vae", "objective=elbo", "prior=uniform", "trainer.precision=bf16-mixed"],
    "flat": ["model=mlp_vae", "posterior=vector_quantized", "prior=categorical", "objective=vq_vae"],
    "invalid": ["model=conv_vae", "objective=vq_vae"],
}


def test_runs_with_a_codebook_train_and_load(tmp_path: Path) -> None:
    common = ["data=digits", "threads=1"]
    runs = {
        name: ["trainer=smoke", *common, *parts, f"hydra.run.dir={tmp_path / name}"] for name, parts in RUNS.items()
    }
    done = train_all(runs, tmp_path)
    assert done["invalid"].returncode == 2 and "objective=vq_vae: needs latents quantised" in done["invalid"].stderr
    for name in RUNS.keys() - {"invalid"}:
        assert done[name].returncode == 0, done[name].stderr
        assert not [word for word in TROUBLE if word in done[name].stderr.lower()], done[name].stderr
        metrics = metrics_of(tmp_path / name)
        assert math.isfinite(metrics["test/nelbo"]) and 1 < metrics["test/code_perplexity"] <= 512
        model = nelbo.load(tmp_path / name)
        with torch.no_grad():
            assert model.generate(2).mean.shape == (2, 1, 8, 8)
        assert (compat.codebook(model.posterior.quantizer).cluster_size > 0).any()
    assert metrics_of(tmp_path / "elbo")["test/kl"] == pytest.approx(4 * math.log(512), rel=1e-5)
