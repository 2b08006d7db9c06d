"""Codes of images, and the classifiers that are fitted to them.

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
from nelbo.views.codes import features

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def codes_of(subject: Subject, task: str, *, split: str | None = None, limit: int | None = None) -> Floats:
    """E_q(z|x)[z] of the images of a split, (N, D): exact, or an average of samples where it has no closed form.

    Of classes, their probabilities; of a codebook, its entries, all positions in a row.

    Args:
        subject: the model and its data.
        task: for people.
        split: another one than that which is evaluated.
        limit: no more than so many images, evenly spread over the split.
    """

    @torch.no_grad()
    def encode(x: Tensor) -> dict[str, Tensor]:
        return {"codes": features(subject.model, mean_of(subject.model.encode(x)))}

    codes: Floats = subject.map(task, encode, split=split, limit=limit)["codes"].double().numpy()
    return codes


def linear_classifier(*, l2: float, max_iter: int) -> Any:
    """Multinomial logistic regression on standardised features.

    Args:
        l2: the weight of |w|^2 / 2 beside the cross-entropy summed over examples.
        max_iter: steps of L-BFGS at most.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / l2, max_iter=max_iter))


def fit(classifier: Any, features: Floats, labels: Integers) -> list[str]:
    """Fit a scikit-learn classifier to features (N, F) and labels (N,), and say what kept it from converging."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(features, labels)
    told = []
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            told.append(str(warning.message).splitlines()[0].rstrip(":"))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return told
