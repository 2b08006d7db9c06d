"""The cost of densities and distances of all pairs, against forms that hold a tensor for every pair.

    python benchmarks/pairs.py [rounds=3]

Times are CPU seconds of one forward and backward pass with one thread, the best of three; memory is by how much the
passes raise the peak of the process. Each figure has a process of its own, and the two forms alternate.

- `mixture`: log p(z) of a mixture of K full Gaussians, in float32. `copied` solves with a factor (N, K, D, D).
- `posterior`: log q(z|x) of S samples of B full Gaussians. `copied` solves with a factor (S, B, D, D).
- `mmd`: MMD^2 of B codes. `copied` holds the differences (B, B, D).
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from nelbo.distributions import FullNormal, even_mixture
from nelbo.objectives import WAE
from nelbo.objectives.mmd import mmd

CASES = {
    "mixture, K=50, D=10, 256 points": ("mixture", 50, 10, (256,)),
    "mixture, K=500, D=50, 100 points": ("mixture", 500, 50, (100,)),
    "posterior, B=256, D=20, S=8": ("posterior", 256, 20, (8, 256)),
    "mmd, B=256, D=50": ("mmd", 256, 50, (1, 256)),
    "mmd, B=1000, D=50": ("mmd", 1000, 50, (1, 1000)),
}


class CopiedNormal(FullNormal):
    """A full Gaussian whose density copies its factor for every point."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats."""
        factor, distance = self.scale_tril.double(), value.double() - self.loc.double()
        shape = torch.broadcast_shapes(distance.shape[:-1], factor.shape[:-2])
        factor = factor.expand(*shape, *factor.shape[-2:])
        e = torch.linalg.solve_triangular(factor, distance.unsqueeze(-1), upper=False).squeeze(-1)
        return self._log_density(e.to(value.dtype))


def copied_mmd(z: Tensor, draws: Tensor, similarity: Callable[[Tensor], Tensor]) -> Tensor:
    """Return MMD^2 from the differences of all pairs."""

    def pairs(one: Tensor, other: Tensor) -> Tensor:
        return similarity((one.unsqueeze(-2) - other.unsqueeze(-3)).square().sum(-1))

    def within(matrix: Tensor) -> Tensor:
        size = matrix.shape[-1]
        return (matrix.sum((-2, -1)) - matrix.diagonal(dim1=-2, dim2=-1).sum(-1)) / (size * (size - 1))

    return within(pairs(z, z)) + within(pairs(draws, draws)) - 2 * pairs(z, draws).mean((-2, -1))


def task(kind: str, count: int, size: int, leading: tuple[int, ...], *, copied: bool) -> Callable[[], object]:
    """Return a function that does one forward and backward pass."""
    z, loc = torch.randn(*leading, size, requires_grad=True), torch.randn(count, size, requires_grad=True)
    if kind == "mmd":
        wae = WAE(mmd_weight=1.0, kernel="imq", scales=[0.1, 0.2, 0.5, 1, 2, 5, 10], num_samples=1)
        similarity = functools.partial(wae.similarity, dimensions=size)
        draws, compute = torch.randn(*leading, size), copied_mmd if copied else mmd
        return lambda: compute(z, draws, similarity).sum().backward()
    raw = (0.1 * torch.randn(count, size, size)).requires_grad_()

    def run() -> None:
        factor = torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp()) + raw.tril(-1)
        q = (CopiedNormal if copied else FullNormal)(loc, factor)
        if kind == "posterior":
            p: torch.distributions.Distribution = q
        elif copied:
            p = MixtureSameFamily(Categorical(logits=torch.zeros(count)), q, validate_args=False)
        else:
            p = even_mixture(q)
        p.log_prob(z).sum().backward()

    return run


def measure(name: str, form: str) -> None:
    """Print the CPU seconds and the peak memory, in MB, of a case."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warm_up = task("mixture", 2, 2, (2,), copied=form == "copied")
    warm_up()
    run = task(*CASES[name], copied=form == "copied")
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(3):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    print(min(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def compare(rounds: int) -> None:
    """Print the medians of both forms, and of the ratios of their times."""
    for name in CASES:
        found: dict[str, list[tuple[float, float]]] = {"copied": [], "pairs": []}
        for _ in range(rounds):
            for form, values in found.items():
                command = [sys.executable, __file__, f"case={name}", f"form={form}"]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                seconds, megabytes = map(float, done.stdout.split())
                values.append((seconds, megabytes))
        for form, values in found.items():
            seconds, megabytes = (statistics.median(each) for each in zip(*values, strict=True))
            print(f"{name}: {form} {seconds * 1000:.1f} ms, {megabytes:.0f} MB")
        ratios = [old[0] / new[0] for old, new in zip(*found.values(), strict=True)]
        print(f"  copied / pairs: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})", flush=True)


def main(arguments: list[str]) -> None:
    """Print all measurements, or with `case` and `form` a single one."""
    given = dict(argument.split("=", 1) for argument in arguments)
    if "case" in given:
        measure(given["case"], given["form"])
    else:
        compare(int(given.get("rounds", 3)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
