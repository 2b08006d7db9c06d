"""Rows of tables in papers: what was published, under which protocol, and which experiment reproduces it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

SHORT = "_short"
"""The end of the name of a row whose training is compressed."""

IMPORTANCE_SAMPLES = 5000
"""Samples of q(z|x) per test image in all papers that report an importance-sampled NLL here."""

UNITS = {"nll": "nats", "bits_per_dim": "bits/dim"}
"""The unit of each published quantity, by its name in evaluation.json; lower is better in all of them."""


@dataclass(frozen=True)
class Row:
    """A row of a table in a paper. The experiment of its name has the architecture, the optimiser and the schedule.

    Args:
        name: the name of the row, and of its file in conf/experiment.
        model: what was trained, in a few words.
        published: the number that the paper reports.
        citation: the paper.
        place: where in the paper the number stands.
        data: the data, with their protocol.
        measure: the published quantity, by its name in evaluation.json: a key of `UNITS`.
        num_samples: importance samples per image; 0 for a number that is not importance-sampled.
        needs_gpu: whether training needs a GPU, because it would take years on a CPU.
        arguments: the arguments of training; none for `experiment=NAME`.
    """

    name: str
    model: str
    published: float
    citation: str
    place: str
    data: str
    measure: str = "nll"
    num_samples: int = IMPORTANCE_SAMPLES
    needs_gpu: bool = False
    arguments: tuple[str, ...] = ()

    @property
    def is_short(self) -> bool:
        """Whether training is compressed to at most 60 CPU minutes; the experiment's file says what differs."""
        return self.name.endswith(SHORT)

    @property
    def unit(self) -> str:
        """The unit of the published number."""
        return UNITS[self.measure]

    @property
    def training(self) -> tuple[str, ...]:
        """The arguments of `nelbo train`."""
        return self.arguments or (f"experiment={self.name}",)

    @property
    def protocol(self) -> str:
        """The data and the evaluation, in one line."""
        how = f"NLL by {self.num_samples:,} importance samples" if self.num_samples else "negative ELBO"
        return f"{self.data}; {how}, all test images"


BURDA = "Burda, Grosse & Salakhutdinov 2016, Importance weighted autoencoders"
VAMPPRIOR = "Tomczak & Welling 2018, VAE with a VampPrior"
LADDER = "Sonderby et al. 2016, Ladder variational autoencoders"
VDVAE = "Child 2021, Very deep VAEs generalize autoregressive models and can outperform them on images"

DYNAMIC, OMNIGLOT = "dynamic MNIST", "Omniglot, dynamic"

FULL = (
    Row("burda2016_vae", "VAE, one layer", 86.76, BURDA, "table 1, k = 1", DYNAMIC),
    Row("burda2016_iwae5", "IWAE, one layer, 5 samples", 85.54, BURDA, "table 1, k = 5", DYNAMIC),
    Row("burda2016_iwae50", "IWAE, one layer, 50 samples", 84.78, BURDA, "table 1, k = 50", DYNAMIC),
    Row("burda2016_omniglot_vae", "VAE, one layer", 108.11, BURDA, "table 1, k = 1", OMNIGLOT),
    Row("burda2016_omniglot_iwae50", "IWAE, one layer, 50 samples", 104.67, BURDA, "table 1, k = 50", OMNIGLOT),
    Row("vampprior2018_vae", "VAE, N(0, I)", 84.50, VAMPPRIOR, "table 1, VAE (L = 1), standard", DYNAMIC),
    Row("vampprior2018_vamp", "VAE, VampPrior", 82.38, VAMPPRIOR, "table 1, VAE (L = 1), VampPrior", DYNAMIC),
    Row("ladder2016", "ladder VAE, 64-32-16-8-4", 82.12, LADDER, "MNIST, 5 layers, no finetuning", DYNAMIC),
    Row(
        "vdvae_cifar10",
        "very deep VAE, 45 levels",
        2.87,
        VDVAE,
        "CIFAR-10, mean of four seeds",
        "CIFAR-10, 8 bits",
        measure="bits_per_dim",
        num_samples=0,
        needs_gpu=True,
    ),
)
"""The rows as the papers trained them."""


def with_short_forms(rows: Iterable[Row]) -> dict[str, Row]:
    """Return rows by name, each that a CPU can train followed by its short form."""
    return {
        form.name: form
        for row in rows
        for form in (row, *([] if row.needs_gpu else [dataclasses.replace(row, name=f"{row.name}{SHORT}")]))
    }


ROWS = with_short_forms(FULL)
"""All rows by name."""
