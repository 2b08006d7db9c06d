"""What torch.compile gains in a training step on the CPU, and what compiling costs.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py [model=mlp|top_down] [rounds=20]

A step is forward and backward pass of the loss, on a batch of random binary images of 28x28 pixels, with the networks
of `model=mlp_vae` (batches of 100) or `model=top_down_vae` (64). Eager and compiled steps take turns; printed are the
medians over the rounds of the processor time of this process, the processor time of the first two compiled steps,
which includes the compiler's, and into how many graphs the step was broken. A C++ compiler is needed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from nelbo import priors
from nelbo.heads import Bernoulli, DiagonalNormalPosterior
from nelbo.models import VAE, Model, TopDownVAE
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO

SHAPE = (1, 28, 28)


def mlp() -> tuple[Model, int]:
    """Return the networks of `model=mlp_vae` and the size of a batch."""
    net = partial(MLP, hidden=[300, 300, 300], activation="GELU", residual=True)
    model = VAE(
        shape=SHAPE,
        latent_dim=32,
        encoder=partial(net, center=True),
        posterior=DiagonalNormalPosterior,
        prior=priors.StandardNormal,
        decoder=partial(net, center=False),
        likelihood=Bernoulli,
    )
    return model, 100


def top_down() -> tuple[Model, int]:
    """Return the model of `model=top_down_vae` and the size of a batch."""
    model = TopDownVAE(
        shape=SHAPE,
        latent_dim=32,
        layout=None,
        latent_channels=4,
        width=64,
        hidden=None,
        form="light",
        depth=2,
        top_width=96,
        output_width=16,
        features=None,
        activation="GELU",
        center=True,
        checkpoint_activations=False,
        posterior=partial(DiagonalNormalPosterior, scale="softplus"),
        prior=partial(priors.Flow, kind="coupling", layers=6, hidden=[200]),
        likelihood=Bernoulli,
    )
    return model, 64


MODELS = {"mlp": mlp, "top_down": top_down}


def step_time(loss: Callable[[Tensor], Tensor], model: Model, x: Tensor) -> float:
    """Return the processor seconds of a forward and backward pass."""
    model.zero_grad()
    start = time.process_time()
    loss(x).backward()
    return time.process_time() - start


def compiler_time() -> float:
    """Return the processor seconds of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(name: str, rounds: int) -> None:
    """Print the times of eager and compiled steps, and of compiling."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, size = MODELS[name]()
    objective = NegativeELBO(beta=1.0, num_samples=1)
    x = torch.bernoulli(torch.full((size, *SHAPE), 0.13))

    def eager(x: Tensor) -> Tensor:
        return objective(model.trace(x, 1), 0).total

    compiled = torch.compile(eager)
    before = compiler_time()
    start = sum(step_time(compiled, model, x) for _ in range(2)) + compiler_time() - before
    step_time(eager, model, x)
    programs = {"eager": eager, "compiled": compiled}
    times = [{key: step_time(loss, model, x) for key, loss in programs.items()} for _ in range(rounds)]
    medians = {key: statistics.median(row[key] for row in times) for key in programs}
    ratios = sorted(row["compiled"] / row["eager"] for row in times)
    print(f"{name}: first two compiled steps {start:.1f} s, {counters['stats']['unique_graphs']} graphs")
    print(", ".join(f"{key} {1000 * value:.1f} ms" for key, value in medians.items()))
    print(f"compiled / eager: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("settings", nargs="*", help="model=mlp|top_down, rounds=N")
    given = dict(word.split("=", 1) for word in parser.parse_args().settings)
    main(given.get("model", "mlp"), int(given.get("rounds", 20)))
