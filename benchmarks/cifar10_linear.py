"""What a linear model of CIFAR-10 reaches: exact probabilistic PCA, so the number that a deeper VAE has to beat.

python benchmarks/cifar10_linear.py

Its density of x in [0, 1] times the width of a level, 1/255, is a probability: bits/dim = -log2 p(x) / 3072 + log2 255.
"""

from __future__ import annotations

import math

import torch

from nelbo.data import cifar10

LATENTS = (8, 32, 128, 512, 1024)


def main() -> None:
    arrays = cifar10()
    train, test = (part.images.flatten(1).double() / 255 for part in (arrays.train, arrays.test))
    mean = train.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(train.T, correction=0))
    values, squares = values.flip(0), ((test - mean) @ vectors.flip(1)).square().mean(0)
    dimensions = len(mean)
    for latents in LATENTS:
        # Tipping & Bishop 1999: sigma^2 is the mean of the eigenvalues left out.
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
    main()
