"""Codes of images as NumPy arrays, and classifiers that are fitted to them.

Shapes: N images, B batch, D latent dimensions, F features.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.evaluation.measure import Subject

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def codes_of(subject: Subject, task: str, *, split: str | None = None, limit: int | None = None) -> Floats:
    """Return E_q(z|x)[z] of the images of a split, (N, D): exact, or an average of samples if there is no closed form.

    For codes of classes these are the class probabilities, and for a codebook its entries, flattened.

    Args:
        subject: the model and its data.
        task: name of the task, for progress reports and for the random states.
        split: name of the split; None for the one that is evaluated.
        limit: largest number of images, evenly spread over the split; None for all.
    """

    @torch.no_grad()
    def encode(x: Tensor) -> dict[str, Tensor]:
        return {"codes": subject.model.features(mean_of(subject.model.encode(x)))}

    codes: Floats = subject.map(task, encode, split=split, limit=limit)["codes"].double().numpy()
    return codes


def linear_classifier(*, l2: float, max_iter: int) -> Any:
    """Return a multinomial logistic regression on standardised features, as a scikit-learn classifier.

    Args:
        l2: weight of |w|^2 / 2, relative to the cross-entropy summed over examples.
        max_iter: largest number of L-BFGS steps.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / l2, max_iter=max_iter))


def fit(classifier: Any, features: Floats, labels: Integers) -> list[str]:
    """Fit a scikit-learn classifier to features (N, F) and labels (N,).

    Returns:
        Convergence warnings of the fit, one line each. Other warnings are passed on.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(features, labels)
    messages = []
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            messages.append(str(warning.message).splitlines()[0].rstrip(":"))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return messages
