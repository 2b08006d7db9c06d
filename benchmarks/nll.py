"""The cost of the importance-sampled NLL: `metrics=[nll]` against a bare loop with the same arithmetic.

    python train.py model=tanh_mlp_vae data=binarized_mnist
    python benchmarks/nll.py run=outputs/... [rounds=5] [images=1000] [num_samples=500]

Both compute the NLL of the same binarized MNIST test images under the same 784-200-200-50 tanh MLP, and alternate in
one run. The bare loop encodes 100 images at a time, decodes 1,000 of their samples at a time, and has the densities
written out; it has no standard error, effective sample size, curve or progress bar.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from nelbo.evaluation import NLL
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE
from nelbo.views.images import evenly_spaced

BATCH, CHUNK = 100, 10


@torch.no_grad()
def bare(model: VAE, x: Tensor, num_samples: int) -> float:
    """Return the mean NLL of images x in nats, by a bare loop."""
    encoder, decoder = linear_layers(model.encoder), linear_layers(model.decoder)
    (pixels,) = linear_layers(model.likelihood)
    bounds = []
    for images in x.flatten(1).split(BATCH):
        features = images
        for layer in encoder:
            features = torch.tanh(layer(features))
        q = model.posterior(features)
        loc, scale = q.loc, q.scale
        total = torch.full((len(images),), -math.inf)
        for _ in range(num_samples // CHUNK):
            noise = torch.randn(CHUNK, *loc.shape)
            z = loc + scale * noise
            features = z
            for layer in decoder:
                features = torch.tanh(layer(features))
            logits = pixels(features)
            loss = functional.binary_cross_entropy_with_logits(logits, images.expand_as(logits), reduction="none")
            log_p = -0.5 * z.square().sum(-1)
            log_q = -0.5 * noise.square().sum(-1) - scale.log().sum(-1)
            total = torch.logaddexp(total, (log_p - log_q - loss.sum(-1)).logsumexp(dim=0))
        bounds.append(total - math.log(num_samples))
    return -torch.cat(bounds).mean().item()


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module, in their order."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def main(arguments: list[str]) -> None:
    """Print the times of both and their ratio."""
    given = {"rounds": "5", "images": "1000", "num_samples": "500"}
    given |= dict(argument.partition("=")[::2] for argument in arguments)
    num_samples, images = int(given["num_samples"]), int(given["images"])
    run = FinishedRun.open(given["run"])
    subject = run.subject(split="test", device="cpu", batch_size=BATCH)
    model = subject.model
    measure = NLL(num_samples=num_samples, limit=images, log_weights=False)
    x = subject.images[evenly_spaced(len(subject.images), images)]
    ratios, ours, theirs = [], [], []
    for _ in range(int(given["rounds"]) + 1):
        started = time.perf_counter()
        expected = bare(model, x, num_samples)
        middle = time.perf_counter()
        nll = measure(subject).values["nll"]
        ended = time.perf_counter()
        assert abs(float(nll) - expected) < 0.5
        theirs.append(middle - started)
        ours.append(ended - middle)
        ratios.append(ours[-1] / theirs[-1])
    scale = 10_000 * 500 / (images * num_samples)
    print(f"{torch.get_num_threads()} threads, {images} images x {num_samples} samples, without the first round")
    print(f"ours / bare: median {statistics.median(ratios[1:]):.3f}, {min(ratios[1:]):.3f} to {max(ratios[1:]):.3f}")
    for name, seconds in (("ours", ours), ("bare", theirs)):
        median = statistics.median(seconds[1:])
        print(f"{name}: {median:.2f} s; 10,000 images x 500 samples at this rate: {median * scale:.0f} s")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
