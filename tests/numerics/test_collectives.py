"""The gradients of two processes that divide a batch average to those of one process with the whole batch.

Shapes: N images, n of them in a process, S samples, D latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributions import Distribution, Independent

from nelbo.data.arrays import Batch
from nelbo.distributions import DiagonalNormal, FullNormal, StandardNormal
from nelbo.metrics import ActiveUnits, KLPerUnit
from nelbo.metrics.moments import covariance
from nelbo.models import VAE, Conditioning, SemiSupervisedVAE
from nelbo.numerics import collectives
from nelbo.numerics.collectives import Shares
from nelbo.objectives import DIP, BetaTC, Capacity, FreeBits, Objective, SemiSupervisedELBO
from nelbo.trace import Latent, Trace
from nelbo.training.batches import training_trace, weight_by_examples
from nelbo.training.callbacks.scalars import TrainingScalars
from tests.helpers.children import Child
from tests.helpers.factors import (
    LATENT_DIM,
    LIKELIHOODS,
    NETS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    SHAPE,
    images,
    make_vae,
    prepared,
)
from tests.helpers.forks import forked, python

N, S, PROCESSES = 7, 4, 2  # one process has 4 images and the other 3
TC = {"alpha": 2.0, "beta": 6.0, "gamma": 3.0, "num_samples": S}

# Cases: objective, posterior, likelihood.
CASES: dict[str, tuple[partial[Objective] | object, str, str]] = {
    **{
        name: (make, "diagonal_normal", "gaussian")
        for name, make in OBJECTIVES.items()
        if name not in ("vq_vae", "free_bits", "capacity", "beta_tc")
    },
    "free_bits_unit": (partial(FreeBits, beta=1.0, free_bits=0.35, per="unit", num_samples=S), "laplace", "gaussian"),
    # The threshold lies between the KLs of the processes: 1.86 in one, 1.97 in the other, 1.91 over the whole batch.
    "free_bits_level": (
        partial(FreeBits, beta=1.0, free_bits=1.89, per="level", num_samples=S),
        "diagonal_normal",
        "gaussian",
    ),
    "capacity": (partial(Capacity, gamma=3.0, capacity=1.89, num_samples=S), "diagonal_normal", "gaussian"),
    **{
        f"beta_tc_{estimator}_{q}": (lambda e=estimator: prepared(BetaTC(estimator=e, **TC)), q, "gaussian")
        for estimator, q in (("weighted", "diagonal_normal"), ("stratified", "laplace"))
    },
    **{
        f"dip_{variant}_{q}": (
            partial(DIP, beta=1.0, variant=variant, lambda_off_diagonal=10.0, lambda_diagonal=5.0, num_samples=S),
            q,
            "gaussian",
        )
        for variant, q in (("i", "diagonal_normal"), ("ii", "full_normal"))
    },
    "optimal_sigma": (OBJECTIVES["elbo"], "diagonal_normal", "gaussian_optimal"),
}
LABELLED = "semi_supervised"
"""A case of its own: a model that infers labels, of which the processes know different numbers."""

LABELS = torch.tensor([0, 2, 1, -1, -1, -1, 0])
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 1.5, 0.25])


class FixedSamples(StandardNormal):
    """N(0, I) with predetermined samples, (S, n, D)."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__(samples[0, 0])
        self.samples = samples

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.samples


def transformed(q: Distribution, noise: Tensor) -> Tensor:
    """Return samples of q, (S, n, D), computed from standard normal noise."""
    if isinstance(q, FullNormal):
        return q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    assert isinstance(q, Independent)
    return q.base_dist.loc + q.base_dist.scale * noise  # type: ignore[no-any-return]


def loss_of(case: str, rank: int, processes: int) -> tuple[VAE, Objective, Tensor]:
    """Return the model and the objective with their gradients, and the loss, for this process's part of a batch."""
    torch.manual_seed(0)
    if case == LABELLED:
        return labelled_loss(rank, processes)
    make, posterior, likelihood = CASES[case]
    model = make_vae(posterior=posterior, likelihood=likelihood).double()
    objective: Objective = make().double()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.mul_(3)  # so that codes vary between images
    x = images(count=N).double()[rank::processes]
    noise, draws, keys = (torch.randn(S, N, LATENT_DIM).double()[:, rank::processes] for _ in range(3))
    q = model.encode(x)
    z = transformed(q, noise)
    px = model.likelihood(model.decoder(model.posterior.embed(z, q)), x)
    trace = Trace(x, px, (Latent(q, FixedSamples(draws), z),))
    with mock.patch("nelbo.objectives.discriminator.torch.rand_like", lambda codes: keys):
        loss = objective(trace, math.inf).total
    weight_by_examples(loss, Shares.of(x)).backward()
    return model, objective, loss.detach()


def labelled_loss(rank: int, processes: int) -> tuple[VAE, Objective, Tensor]:
    """As `loss_of`, with labels and weights of the examples."""
    encoder, decoder = NETS["mlp"]
    kinds = {"names": ["label"], "kinds": {"label": 3}, "embedding": None, "layers": "modulation", "prior": False}
    model = SemiSupervisedVAE(
        shape=SHAPE,
        latent_dim=LATENT_DIM,
        encoder=encoder,
        posterior=POSTERIORS["diagonal_normal"],
        prior=PRIORS["standard_normal"],
        decoder=decoder,
        likelihood=LIKELIHOODS["gaussian"],
        conditioning=partial(Conditioning, **kinds),
        classifier=encoder,
    ).double()
    objective = SemiSupervisedELBO(beta=2.0, classification=5.0, num_samples=1)
    columns = {"sample_weight": WEIGHTS[rank::processes]}
    batch = Batch(images(count=N).double()[rank::processes], LABELS[rank::processes], columns)
    with mock.patch("nelbo.models.semi_supervised.sample_with_density", lambda q, n: (q.loc.unsqueeze(0) + 0.1, None)):
        trace = training_trace(model, batch, 1)
    loss = objective(trace, math.inf).total
    weight_by_examples(loss, Shares.of(batch.x)).backward()
    return model, objective, loss.detach()


def run_process(folder: Path, rank: int) -> None:
    """Save the losses, the gradients averaged as by DDP, the buffers and the metrics of one of two processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", world_size=PROCESSES, rank=rank)
    result: dict[str, object] = {}
    for case in (*CASES, LABELLED):
        model, objective, loss = loss_of(case, rank, PROCESSES)
        for parameter in nn.ModuleList([model, objective]).parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= PROCESSES
        result[case] = loss, gradients(model, objective), dict(model.named_buffers())
    with torch.inference_mode():  # as in the validation of Lightning
        x = numbered_images()
        result["gathered"] = Shares.of(x[rank::PROCESSES]).gather(x[rank::PROCESSES].transpose(0, 1), dim=1)
    result |= metrics(rank)
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def numbered_images() -> Tensor:
    return torch.arange(N * 6.0).reshape(N, 2, 3)


def gradients(model: VAE, objective: Objective) -> dict[str, Tensor]:
    parameters = nn.ModuleDict({"model": model, "objective": objective}).named_parameters()
    return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}


MEANS = 300 + torch.tensor([0.05, 0.2]) * torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
"""E[z] of an inactive and of an active unit."""


def metrics(rank: int, processes: int = PROCESSES) -> dict[str, object]:
    """Return metrics of codes that are divided among processes, and the covariance that a checkpoint would hold."""
    q = DiagonalNormal(MEANS, torch.ones_like(MEANS))
    trace = Trace(torch.zeros(2, 1, 1, 1), q, (Latent(q, StandardNormal(MEANS[0]), MEANS.unsqueeze(0)),))
    active, kl = ActiveUnits(trace), KLPerUnit(trace)
    for part in torch.arange(rank, 1000, processes).split(64):
        q = DiagonalNormal(MEANS[part], torch.ones_like(MEANS[part]))
        latent = Latent(q, StandardNormal(MEANS[0]), MEANS[part].unsqueeze(0))
        for metric in (active, kl):
            metric.update(Trace(torch.zeros(len(part), 1, 1, 1), q, (latent,)))
    with active.sync_context(should_sync=processes > 1):
        variances = active.variances()
    scalars = TrainingScalars()
    scalars._active_units = active
    saved = covariance(scalars.state_dict()["active_units"]["moments"])
    return {"variances": variances, "active": active.compute(), "kl": kl.values(), "saved": saved}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Mapping[str, object]]]:
    """Return the results of two processes."""
    folder = tmp_path_factory.mktemp("results")
    children = [Child(partial(run_process, folder, rank)) for rank in range(PROCESSES)]
    for child in children:
        status, output = child.wait()
        assert status == 0, output
    yield [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", [*CASES, LABELLED])
def test_gradients_of_processes_average_to_those_of_one(
    case: str, results: list[Mapping[str, tuple[object, ...]]]
) -> None:
    """The processes have different numbers of images. Losses weighted by these numbers average to that of one too."""
    model, objective, loss = loss_of(case, 0, 1)
    expected = gradients(model, objective)
    losses = [result[case][0] for result in results]
    torch.testing.assert_close((4 * losses[0] + 3 * losses[1]) / 7, loss)  # type: ignore[operator]
    for result in results:
        assert result[case][1].keys() == expected.keys()  # type: ignore[attr-defined]
        torch.testing.assert_close(result[case][1], expected)
        torch.testing.assert_close(result[case][2], dict(model.named_buffers()))
    assert any(gradient.abs().max() > 1e-3 for gradient in expected.values())


def test_gathered_examples_are_in_the_order_of_processes(results: list[Mapping[str, Tensor]]) -> None:
    x = numbered_images()
    for result in results:
        assert result["gathered"].equal(torch.cat([x[0::2], x[1::2]]).transpose(0, 1))
    single = Shares.of(x)
    assert single == Shares((N,)) and single.weight == 1 and single.gather(x) is x and single.mean(x) is x
    two = Shares((4, 3), rank=1)
    assert (two.total, two.start, two.weight) == (7, 4, 6 / 7) and two.own(x).equal(x[4:])
    assert not collectives.several_processes()


def test_metrics_of_processes_equal_those_of_one(results: list[Mapping[str, Tensor]]) -> None:
    expected = metrics(0, processes=1)
    for result in results:
        torch.testing.assert_close(result["variances"], MEANS.double().var(0, correction=0).float())
        for name in ("variances", "active", "kl", "saved"):
            torch.testing.assert_close(result[name], expected[name])
        assert result["active"] == 1


@pytest.mark.slow
def test_run_of_two_processes_equals_run_of_one_with_twice_the_batch_size(tmp_path: Path) -> None:
    """An autoencoder, which draws no noise, with the optimal sigma of each batch; the last has 24 and 23 images."""
    common = ["model=mlp_vae", "data=digits", "posterior=deterministic", "objective=reconstruction", "threads=1"]
    common += ["likelihood=gaussian_optimal", "data.validation_size=199", "trainer.max_epochs=2", "callbacks=none"]
    done = forked("train.py", *common, "data.batch_size=66", f"hydra.run.dir={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=33"]
    done = python("train.py", *common, *ddp, f"hydra.run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)
