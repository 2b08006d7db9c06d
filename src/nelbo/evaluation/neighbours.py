"""Nearest training images of generated images: whether a model copies its training set.

Shapes: Q query images, K neighbours, P = C H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.errors import at_most, choice, positive_integer
from nelbo.evaluation.generated import PIXELS, checked_temperature, generate, temperature_scalar
from nelbo.evaluation.likelihood import require_whole_images
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Scalar, Subject
from nelbo.views.grids import grid

NEIGHBOURS, ROWS = 5, 10
"""Neighbours of an image and number of images in the picture."""

BLOCK = 1000
"""Training images that are compared at once."""

QUANTILE = 0.01
"""Quantile of the distances of unseen images below which a sample counts as a copy."""


class Neighbours(Measure):
    """Distances from samples to the nearest training images, compared with those of unseen images.

    `neighbour_distance_ratio` is the median distance of samples divided by that of the split's images: near 0 for
    copies. `copies` is the share of samples that are as close to a training image as the closest 1% of the split's
    images: about 0.01 for samples that are like unseen images. Distances are Euclidean, over pixels.

    By default means of p(x|z) are compared, because the noise of samples would hide copies. Means are smoother than
    real images and therefore somewhat closer to all training images.

    Args:
        num_generated: number of samples.
        temperature: temperature of p(z), one number or one for each level of latents; 1 for p(z) itself.
        pixels: `mean` of p(x|z), or `sample` of it.
        limit: largest number of images of the split; None for all.
    """

    def __init__(
        self, *, num_generated: int, temperature: float | Sequence[float], pixels: str, limit: int | None
    ) -> None:
        self.num_generated = positive_integer("num_generated", num_generated)
        self.temperature = checked_temperature(temperature)
        self.pixels = choice("pixels", pixels, PIXELS)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the split is the training set, consists of training images, or pixels are unknown.
        """
        require_whole_images(subject, "neighbours")
        if subject.split == "train":
            raise NotApplicable("neighbours compares unseen images with training images; use split=test or val")
        generated = generate(
            subject, "samples", self.num_generated, lambda x: x, temperature=self.temperature, pixels=self.pixels
        )
        unseen = subject.map("images", lambda x: {"": x}, limit=self.limit)[""]
        count = min(NEIGHBOURS, len(subject.splits["train"]))
        distances, positions = nearest(subject, torch.cat([generated, unseen]).flatten(1), count)
        of_samples, of_unseen = distances[: len(generated), 0], distances[len(generated) :, 0]
        if not (median := of_unseen.median()):
            raise NotApplicable(f"neighbours: most images of split {subject.split} are training images themselves")
        settings: dict[str, Scalar] = {
            "neighbour_generated": len(generated),
            "neighbour_images": len(unseen),
            "neighbour_pixels": self.pixels,
            "neighbour_temperature": temperature_scalar(self.temperature),
        }
        findings = Findings(recipe={**settings})
        findings.values = {
            "neighbour_distance_ratio": (of_samples.median() / median).item(),
            "copies": (of_samples <= of_unseen.quantile(QUANTILE)).double().mean().item(),
            **settings,
        }
        shown = generated[:ROWS]
        near = subject.splits["train"][positions[: len(shown)].flatten()].unflatten(0, (len(shown), count))
        findings.pictures["neighbours"] = grid(
            torch.cat([shown[:, None], near], dim=1), values=subject.model.value_range
        )
        return findings


@torch.no_grad()
def nearest(subject: Subject, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the distances and positions of the K nearest training images of each query, (Q, K), nearest first.

    Neighbours are selected by squared norms and products, which is fast but rounds small distances; the distances of
    the selected ones are then computed exactly. Processes share the training images.

    Args:
        subject: provides the training images.
        queries: flattened images, (Q, P).
        count: K.
    """
    train, processes = subject.splits["train"], subject.processes
    blocks = torch.arange(len(train)).split(BLOCK)
    queries = queries.to(subject.device)
    best = queries.new_full((len(queries), count), torch.inf)
    where = torch.zeros_like(best, dtype=torch.long)
    for index in range(processes.rank, len(blocks), processes.count):
        x = train[blocks[index]].flatten(1).to(queries)
        # The squared distance without the norm of the query, which does not change the order.
        squared = torch.addmm(x.square().sum(dim=1), queries, x.T, alpha=-2)
        near, chosen = squared.topk(min(count, len(x)), largest=False)
        best, where = _nearer(
            torch.cat([best, near], dim=1),
            torch.cat([where, chosen + blocks[index][0].to(chosen.device)], dim=1),
            count,
        )
        subject.watch("neighbours", min(index + processes.count, len(blocks)), len(blocks))
    scores = processes.join([best.cpu()], processes.count)
    places = processes.join([where.cpu()], processes.count)
    _, positions = _nearer(torch.cat(scores, dim=1), torch.cat(places, dim=1), count)
    distances = torch.cat(
        [
            (query[:, None] - train[near.flatten()].flatten(1).unflatten(0, near.shape)).double().norm(dim=2)
            for query, near in zip(queries.cpu().split(BLOCK), positions.split(BLOCK), strict=True)
        ]
    )
    return _nearer(distances, positions, count)


def _nearer(distances: Tensor, positions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` smallest distances of each row, and their positions."""
    values, order = distances.topk(count, largest=False)
    return values, positions.gather(1, order)
