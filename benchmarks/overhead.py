"""The cost of the framework: training epochs with train.py against a bare loop, alternating in one run.

    python benchmarks/overhead.py [rounds] [epochs]

Both train the 784-200-200-50 tanh MLP on dynamically binarized MNIST with batches of 256. The bare loop indexes the
same uint8 tensors, binarises them in the same way and has its loss written out; it has no logging, no metrics and no
checkpoints. The time of train.py is its `train_seconds`: the training epochs without start, validation, pictures and
checkpoints.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nelbo.data import mnist

ROOT = Path(__file__).parents[1]
BATCH, LATENT_DIM, LEARNING_RATE = 256, 50, 2e-3


def framework(epochs: int) -> float:
    """Return the seconds per epoch of train.py with all its callbacks."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=mlp_vae", "data=binarized_mnist", f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "train.py", *overrides], cwd=ROOT, check=True, capture_output=True)
        return json.loads((Path(folder) / "metrics.json").read_text())["train_seconds"] / epochs


def bare(images: torch.Tensor, epochs: int, *, fused: bool) -> float:
    """Return the seconds per epoch of the bare loop.

    Args:
        images: uint8 images, (N, 1, 28, 28).
        epochs: the number of epochs.
        fused: whether Adam uses its fused implementation.
    """
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 2 * LATENT_DIM)
    )
    decoder = nn.Sequential(nn.Linear(LATENT_DIM, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=fused or None)
    start = time.perf_counter()
    for _ in range(epochs):
        for indices in torch.randperm(len(images)).split(BATCH):
            grey = images[indices].float() / 255
            x = (torch.rand_like(grey) < grey).float()
            mu, log_sigma = encoder(x).chunk(2, dim=-1)
            sigma = log_sigma.exp()
            logits = decoder(mu + sigma * torch.randn_like(mu))
            reconstruction = functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
            kl = 0.5 * (mu.square() + sigma.square() - 2 * log_sigma - 1).sum()
            loss = (reconstruction + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.perf_counter() - start) / epochs


def main(rounds: int, epochs: int) -> None:
    """Print the seconds per epoch of each round, and the ratios over all rounds."""
    images = mnist().train.images[:50_000]
    bare(images, 1, fused=False)  # warm-up
    seconds: dict[str, list[float]] = {"train.py": [], "bare, default Adam": [], "bare, fused Adam": []}
    for round_number in range(rounds):
        seconds["bare, default Adam"].append(bare(images, epochs, fused=False))
        seconds["train.py"].append(framework(epochs))
        seconds["bare, fused Adam"].append(bare(images, epochs, fused=True))
        line = "  ".join(f"{name} {values[-1]:.3f}" for name, values in seconds.items())
        print(f"round {round_number + 1}, s/epoch: {line}", flush=True)
    for name in ("bare, default Adam", "bare, fused Adam"):
        ratios = [ours / theirs for ours, theirs in zip(seconds["train.py"], seconds[name], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"train.py / {name}: median {middle:.3f} (min {low:.3f}, max {high:.3f}) over {rounds} rounds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("epochs", nargs="?", type=int, default=3)
    options = parser.parse_args()
    main(options.rounds, options.epochs)
