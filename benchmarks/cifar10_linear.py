"""The NLL of a linear model of CIFAR-10: exact probabilistic PCA, as a baseline for deeper VAEs.

python benchmarks/cifar10_linear.py

The density of x in [0, 1] times the width of a level, 1/255, is a probability, so that
bits/dim = -log2 p(x) / 3072 + log2 255.
"""

from __future__ import annotations

import argparse
import math

import torch

from nelbo.data import cifar10

LATENTS = (8, 32, 128, 512, 1024)


def main() -> None:
    """Print the bits/dim of the test set for each number of latents."""
    arrays = cifar10()
    train, test = (part.images.flatten(1).double() / 255 for part in (arrays.train, arrays.test))
    mean = train.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(train.T, correction=0))
    values, squares = values.flip(0), ((test - mean) @ vectors.flip(1)).square().mean(0)
    dimensions = len(mean)
    for latents in LATENTS:
        # Tipping & Bishop 1999: the maximum-likelihood sigma^2 is the mean of the discarded eigenvalues.
        noise = values[latents:].mean()
        nats = 0.5 * (
            dimensions * math.log(2 * math.pi)
            + values[:latents].log().sum()
            + (dimensions - latents) * noise.log()
            + (squares[:latents] / values[:latents]).sum()
            + squares[latents:].sum() / noise
        )
        print(f"{latents:5} latents: {nats / dimensions / math.log(2) + math.log2(255):.3f} bits/dim on the test set")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    main()
