"""The noise of gradients with respect to q: of a bound and of other estimators, before and after training.

    python train.py model=tanh_mlp_vae data=binarized_mnist
    python benchmarks/gradients.py run=outputs/... [images=16] [draws=100]

The gradient is that of the mean loss of the same test images for each draw of the noise, with respect to the parameters
of encoder and posterior. Its variance is summed over these parameters. The signal-to-noise ratio (SNR) is the norm of
the mean gradient divided by the square root of that variance; the part of the squared norm that is due to the finite
number of draws is subtracted.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from nelbo.config.build import MODEL_PREFIXES, build
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE
from nelbo.objectives import IWAE, PIWAE, STL, DReG, NegativeELBO, Objective
from nelbo.views.images import evenly_spaced

PAIRS: list[tuple[Objective, Objective]] = [
    (NegativeELBO(beta=1.0, num_samples=1), STL(beta=1.0, num_samples=1)),
    *((IWAE(num_samples=samples), DReG(num_samples=samples)) for samples in (1, 8, 64)),
    (IWAE(num_samples=64), PIWAE(num_samples=64, groups=8)),
]
"""Pairs of a bound and an estimator to compare with it."""


def noise(model: VAE, objective: Objective, x: Tensor, draws: int) -> tuple[float, float]:
    """Return the variance of the gradient and its signal-to-noise ratio."""
    parameters = [*model.encoder.parameters(), *model.posterior.parameters()]
    size = sum(parameter.numel() for parameter in parameters)
    total, squares = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for _ in range(draws):
        loss = objective(model.trace(x, objective.num_samples), math.inf).total
        gradients = torch.autograd.grad(loss, parameters)
        gradient = torch.cat([each.flatten() for each in gradients]).double()
        total += gradient
        squares += gradient.square()
    mean = total / draws
    variance = float((squares - draws * mean.square()).sum()) / (draws - 1)
    signal = max(float(mean.square().sum()) - variance / draws, 0.0)
    return variance, math.sqrt(signal / variance)


def main(arguments: list[str]) -> None:
    """Print a Markdown table with a row for each pair."""
    given = {"images": "16", "draws": "100"} | dict(argument.partition("=")[::2] for argument in arguments)
    run = FinishedRun.open(given["run"])
    images = run.subject(split="test", device="cpu").images
    x = images[evenly_spaced(len(images), int(given["images"]))]
    torch.manual_seed(0)
    start: VAE = build(run.record["model"], "model", MODEL_PREFIXES)
    start.initialize(x)
    print("| | K | estimator | variance / bound's | SNR, bound | SNR, estimator |")
    print("|---|---|---|---|---|---|")
    for name, model in (("start", start.eval()), ("trained", run.model)):
        for bound, estimator in PAIRS:
            theirs, ours = (noise(model, objective, x, int(given["draws"])) for objective in (bound, estimator))
            row = (name, bound.num_samples, f"{estimator.name} against {bound.name}", f"{ours[0] / theirs[0]:.3g}")
            print("|", " | ".join(map(str, row)), f"| {theirs[1]:.3g} | {ours[1]:.3g} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
