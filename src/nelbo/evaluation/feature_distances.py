"""Distances between two sets of features, computed by torchmetrics.

Shapes: N and M images, F features.
"""

from __future__ import annotations

import warnings

from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance


class _Features(nn.Module):
    """The identity, which lets torchmetrics accept features instead of images.

    Args:
        num_features: F.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Return the features unchanged."""
        return features


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Return |mu - mu'|^2 + tr(C + C' - 2 (C C')^(1/2)) of features (N, F) and (M, F), in float64."""
    # Every process has all features, so torchmetrics must not sum over processes: it would count each feature twice.
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]), sync_on_compute=False)
    # torchmetrics subtracts squares of means from means of squares, which is inaccurate far from 0.
    centre = real.double().mean(dim=0)
    metric.update(real.double() - centre, real=True)
    metric.update(generated.double() - centre, real=False)
    return float(metric.compute())


def kernel_distance(real: Tensor, generated: Tensor, subsets: int, subset_size: int) -> tuple[float, float]:
    """Return the mean and standard deviation of KID over random subsets of features (N, F) and (M, F), in float64."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(
            feature=_Features(real.shape[1]), subsets=subsets, subset_size=subset_size, sync_on_compute=False
        )
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    mean, deviation = metric.compute()
    return float(mean), float(deviation)
