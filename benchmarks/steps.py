"""CPU time of a training step: of a VampPrior over flows, and of gradient estimators on a hierarchy.

    OMP_NUM_THREADS=1 python benchmarks/steps.py [rounds=7]

A step is forward pass, backward pass and Adam's update, on a batch of 100 random binary images of 28x28 pixels. The
fully connected models are those of `model=tanh_mlp_vae` and `model=ladder_vae`. The settings take turns; printed are
the medians over the rounds of the processor time of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from nelbo import priors
from nelbo.heads import Bernoulli, DiagonalNormalPosterior, FlowPosterior
from nelbo.models import VAE, LadderVAE, Model
from nelbo.nets import MLP
from nelbo.objectives import IWAE, PIWAE, STL, DReG, NegativeELBO, Objective

SHAPE, BATCH = (1, 28, 28), 100
net = partial(MLP, hidden=[200, 200], activation="Tanh")
ELBO = NegativeELBO(beta=1.0, num_samples=1)


def vae(kind: str | None, prior: Callable[..., priors.Prior]) -> Model:
    """Return the model of `model=tanh_mlp_vae` with a flow of a kind, or without a flow, as its posterior."""
    flow = partial(FlowPosterior, context=50, kind=kind or "coupling", layers=3, hidden=[200])
    posterior = flow if kind else DiagonalNormalPosterior
    return VAE(
        shape=SHAPE, latent_dim=50, encoder=net, posterior=posterior, prior=prior, decoder=net, likelihood=Bernoulli
    )


def ladder() -> Model:
    """Return the model of `model=ladder_vae`."""
    return LadderVAE(
        shape=SHAPE,
        levels=[32, 24, 16],
        width=400,
        hidden=128,
        depth=2,
        activation="GELU",
        center=True,
        checkpoint_activations=False,
        posterior=DiagonalNormalPosterior,
        prior=priors.StandardNormal,
        likelihood=Bernoulli,
    )


def settings() -> Iterator[tuple[str, Model, Objective]]:
    """Yield the name, the model and the objective of each setting."""
    for kind in (None, "coupling", "spline"):
        yield f"{kind or 'diagonal_normal'}, standard_normal", vae(kind, priors.StandardNormal), ELBO
        for components in (50, 500):
            prior = partial(priors.VampPrior, components=components, from_data=True)
            yield f"{kind or 'diagonal_normal'}, vamp with K = {components}", vae(kind, prior), ELBO
    for objective in (ELBO, STL(beta=1.0, num_samples=1)):
        yield f"ladder_vae, {objective.name}", ladder(), objective
    for bound in (IWAE(num_samples=8), DReG(num_samples=8), PIWAE(num_samples=8, groups=2)):
        yield f"ladder_vae, {bound.name} with 8 samples", ladder(), bound


def step_time(model: Model, objective: Objective, optimizer: torch.optim.Optimizer, x: Tensor) -> float:
    """Return the processor seconds of a step."""
    start = time.process_time()
    optimizer.zero_grad()
    objective(model.trace(x, objective.num_samples), 0).total.backward()
    optimizer.step()
    return time.process_time() - start


def main(rounds: int) -> None:
    """Print a Markdown table with a row for each setting."""
    torch.set_num_threads(1)
    x = torch.rand(BATCH, *SHAPE).round()
    cases = []
    for name, model, objective in settings():
        model.initialize(x)
        optimizer = torch.optim.Adam(model.parameters())
        step_time(model, objective, optimizer, x)
        cases.append((name, model, objective, optimizer, list[float]()))
    for _ in range(rounds):
        for _, model, objective, optimizer, times in cases:
            times.append(step_time(model, objective, optimizer, x))
    print("| setting | ms per step |")
    print("|---|---|")
    for name, *_, times in cases:
        print(f"| {name} | {1000 * statistics.median(times):.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", default="rounds=7", metavar="rounds=7")
    main(int(parser.parse_args().rounds.partition("=")[2]))
