"""Tables with a known dependence between their columns, and missing values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from nelbo.data import table
from nelbo.data.arrays import Arrays


def nonlinear_table(rows: int, seed: int, missing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table of functions of one hidden number, and the same table with values missing at random.

    Three columns are numbers, one is binary, one has four categories, and one is a count.

    Args:
        rows: number of rows.
        seed: of all random numbers.
        missing: probability that a value is missing.
    """
    random = np.random.default_rng(seed)
    hidden = random.uniform(-2, 2, rows)
    noise = random.normal(size=(4, rows))
    wave = np.sin(2 * hidden) + 0.1 * noise[0]
    full = pd.DataFrame(
        {
            "height": 170 + 10 * wave,
            "area": hidden**2 + 0.15 * noise[1],
            "score": np.abs(hidden) - 0.5 * wave + 0.1 * noise[2],
            "smoker": np.where(random.uniform(size=rows) < 1 / (1 + np.exp(-5 * wave)), "yes", "no"),
            "region": np.array(["north", "east", "south", "west"])[np.digitize(hidden + 0.2 * noise[3], [-1, 0, 1])],
            "visits": random.poisson(np.exp(1.5 + 0.9 * np.cos(2 * hidden))),
        }
    )
    return full, full.astype(object).mask(random.uniform(size=full.shape) < missing)


def write_table(frame: pd.DataFrame, file: Path) -> str:
    """Write a table as .csv or .parquet and return its path."""
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file, index=False)
    return str(file)


def read(path: str, **options: Any) -> Arrays:
    """Return a table as `nelbo.data.table` reads it, with options at the defaults of conf/data/table.yaml."""
    defaults: dict[str, Any] = {"test_path": None, "columns": None, "label": None}
    return table(path, **(defaults | {"test_size": 0.1, "validation_size": 0.1, "seed": 0} | options))


def numbers_table(rows: int, seed: int, missing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table of ten functions of two hidden numbers, and the same table with values missing at random.

    Args:
        rows: number of rows.
        seed: of all random numbers.
        missing: probability that a value is missing.
    """
    random = np.random.default_rng(seed)
    a, b = random.uniform(-2, 2, (2, rows))
    waves = [np.sin(2 * a), np.cos(2 * b), np.sin(a + b), np.tanh(2 * a - b)]
    surface = np.stack([*waves, a * b, a**2 - b, np.exp(-(a**2)), np.abs(b), a, b**2], axis=1)
    full = pd.DataFrame(surface + 0.2 * random.normal(size=surface.shape), columns=list("abcdefghij"))
    return full, full.mask(random.uniform(size=full.shape) < missing)


def mixture_log_likelihood(mixture: Any, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return log p of the observed entries of rows under a Gaussian mixture of scikit-learn, in nats, (N,).

    Args:
        mixture: with `covariance_type="full"`, fitted.
        x: (N, D).
        observed: bool, (N, D).
    """
    result = np.zeros(len(x))
    for pattern in np.unique(observed, axis=0):
        rows = (observed == pattern).all(axis=1)
        if not pattern.any():
            continue
        parts = [
            np.atleast_1d(
                multivariate_normal(mean[pattern], covariance[np.ix_(pattern, pattern)]).logpdf(x[rows][:, pattern])
            )
            for mean, covariance in zip(mixture.means_, mixture.covariances_, strict=True)
        ]
        result[rows] = logsumexp(np.stack(parts) + np.log(mixture.weights_)[:, None], axis=0)
    return result


def best_mixture(train: np.ndarray, x: np.ndarray, observed: np.ndarray, seed: int) -> Any:
    """Return the Gaussian mixture of scikit-learn, of 1 to 32 components, that fits validation rows best.

    Args:
        train: training rows without missing entries, (N, D).
        x: validation rows, (M, D).
        observed: which of their entries are known, bool, (M, D).
        seed: of the starting values.
    """
    counts = [count for count in (1, 2, 4, 8, 16, 32) if 4 * count <= len(train)]
    mixtures = [
        GaussianMixture(count, random_state=seed, n_init=2, max_iter=300, reg_covar=1e-4).fit(train) for count in counts
    ]
    return max(mixtures, key=lambda mixture: mixture_log_likelihood(mixture, x, observed).mean())
