"""Two processes that share a batch have, on average, the gradients of one process that has all of it.

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

from nelbo.distributions import DiagonalNormal, FullNormal, StandardNormal
from nelbo.metrics import ActiveUnits, KLPerUnit
from nelbo.metrics.moments import covariance
from nelbo.models import VAE
from nelbo.numerics import collectives
from nelbo.numerics.collectives import Shares
from nelbo.objectives import DIP, BetaTC, Capacity, FreeBits, Objective
from nelbo.trace import Latent, Trace
from nelbo.training.callbacks.scalars import TrainingScalars
from nelbo.training.module import weight_by_examples
from tests.helpers.children import Child
from tests.helpers.factors import LATENT_DIM, OBJECTIVES, images, make_vae, prepared
from tests.helpers.forks import forked, python

N, S, PROCESSES = 7, 4, 2  # of which one has 4 images and the other 3
TC = {"alpha": 2.0, "beta": 6.0, "gamma": 3.0, "num_samples": S}

# Objective, posterior, likelihood.
CASES: dict[str, tuple[partial[Objective] | object, str, str]] = {
    **{
        name: (make, "diagonal_normal", "gaussian")
        for name, make in OBJECTIVES.items()
        if name not in ("vq_vae", "free_bits", "capacity", "beta_tc")
    },
    "free_bits_unit": (partial(FreeBits, beta=1.0, free_bits=0.35, per="unit", num_samples=S), "laplace", "gaussian"),
    # The KL is 1.86 in one process, 1.97 in the other, and 1.91 in both.
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


class Fixed(StandardNormal):
    """N(0, I) whose samples are given, (S, n, D)."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__(samples[0, 0])
        self.samples = samples

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.samples


def moved(q: Distribution, noise: Tensor) -> Tensor:
    """Samples of q, (S, n, D), from standard noise."""
    if isinstance(q, FullNormal):
        return q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    assert isinstance(q, Independent)
    return q.base_dist.loc + q.base_dist.scale * noise  # type: ignore[no-any-return]


def loss_of(case: str, rank: int, processes: int) -> tuple[VAE, Objective, Tensor]:
    """The model and the objective with their gradients, and the loss, for this process's share of one batch."""
    torch.manual_seed(0)
    make, posterior, likelihood = CASES[case]
    model = make_vae(posterior=posterior, likelihood=likelihood).double()
    objective: Objective = make().double()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.mul_(3)  # codes that differ from image to image
    x = images(count=N).double()[rank::processes]
    noise, draws, keys = (torch.randn(S, N, LATENT_DIM).double()[:, rank::processes] for _ in range(3))
    q = model.encode(x)
    z = moved(q, noise)
    px = model.likelihood(model.decoder(model.posterior.embed(z, q)), x)
    trace = Trace(x, px, (Latent(q, Fixed(draws), z),))
    with mock.patch("nelbo.objectives.discriminator.torch.rand_like", lambda codes: keys):
        loss = objective(trace, math.inf).total
    weight_by_examples(loss, Shares.of(x)).backward()
    return model, objective, loss.detach()


def share(folder: Path, rank: int) -> None:
    """Losses, gradients averaged as DDP does, buffers and metrics of a process; one of two."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", world_size=PROCESSES, rank=rank)
    result: dict[str, object] = {}
    for case in CASES:
        model, objective, loss = loss_of(case, rank, PROCESSES)
        for parameter in nn.ModuleList([model, objective]).parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= PROCESSES
        result[case] = loss, gradients(model, objective), dict(model.named_buffers())
    with torch.inference_mode():  # as in Lightning's validation
        x = ordered()
        result["gathered"] = Shares.of(x[rank::PROCESSES]).gather(x[rank::PROCESSES].transpose(0, 1), dim=1)
    result |= metrics(rank)
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def ordered() -> Tensor:
    return torch.arange(N * 6.0).reshape(N, 2, 3)


def gradients(model: VAE, objective: Objective) -> dict[str, Tensor]:
    parameters = nn.ModuleDict({"model": model, "objective": objective}).named_parameters()
    return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}


MEANS = 300 + torch.tensor([0.05, 0.2]) * torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
"""E[z] of a dead unit and of an active one."""


def metrics(rank: int, processes: int = PROCESSES) -> dict[str, object]:
    """Of codes that processes share: variances of means, active units, KLs of units, and what a checkpoint holds."""
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
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Mapping[str, object]]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("shared")
    children = [Child(partial(share, folder, rank)) for rank in range(PROCESSES)]
    for child in children:
        status, said = child.wait()
        assert status == 0, said
    yield [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_processes_have_the_gradient_of_one(case: str, shared: list[Mapping[str, tuple[object, ...]]]) -> None:
    """Of a batch that is not shared evenly; and validation, which weighs by examples, has its loss."""
    model, objective, loss = loss_of(case, 0, 1)
    expected = gradients(model, objective)
    losses = [result[case][0] for result in shared]
    torch.testing.assert_close((4 * losses[0] + 3 * losses[1]) / 7, loss)  # type: ignore[operator]
    for result in shared:
        assert result[case][1].keys() == expected.keys()  # type: ignore[attr-defined]
        torch.testing.assert_close(result[case][1], expected)
        torch.testing.assert_close(result[case][2], dict(model.named_buffers()))
    assert any(gradient.abs().max() > 1e-3 for gradient in expected.values())


def test_what_processes_gather_stands_in_their_order(shared: list[Mapping[str, Tensor]]) -> None:
    x = ordered()
    for result in shared:
        assert result["gathered"].equal(torch.cat([x[0::2], x[1::2]]).transpose(0, 1))
    alone = Shares.of(x)
    assert alone == Shares((N,)) and alone.weight == 1 and alone.gather(x) is x and alone.mean(x) is x
    two = Shares((4, 3), rank=1)
    assert (two.total, two.start, two.weight) == (7, 4, 6 / 7) and two.own(x).equal(x[4:])
    assert not collectives.several_processes()


def test_metrics_of_processes_are_those_of_one(shared: list[Mapping[str, Tensor]]) -> None:
    alone = metrics(0, processes=1)
    for result in shared:
        torch.testing.assert_close(result["variances"], MEANS.double().var(0, correction=0).float())
        for name in ("variances", "active", "kl", "saved"):
            torch.testing.assert_close(result[name], alone[name])
        assert result["active"] == 1


@pytest.mark.slow
def test_a_run_of_two_processes_is_the_run_of_one_with_twice_the_batch_size(tmp_path: Path) -> None:
    """An autoencoder draws no noise. Its sigma is that of the batch, and its last batch is of 24 and 23 images."""
    common = ["model=mlp_vae", "data=digits", "posterior=deterministic", "objective=reconstruction", "threads=1"]
    common += ["likelihood=gaussian_optimal", "data.validation_size=199", "trainer.max_epochs=2", "callbacks=none"]
    done = forked("train.py", *common, "data.batch_size=66", f"hydra.run.dir={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=33"]
    done = python("train.py", *common, *ddp, f"hydra.run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)
