"""The cache file of a data set's classifier."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from nelbo.errors import DataError, first_line
from nelbo.evaluation.classifier import VERSION, SmallClassifier, TrainedClassifier, train, weights_sha256
from nelbo.evaluation.measure import NotApplicable, Scalar, Subject

SMALLEST = 8
"""Smallest height and width of images, in pixels."""

SAME_DATA = ("data_sha256", "protocol", "split_seed", "train_images")
"""Keys of the provenance of the data that identify the training images."""


def load_or_train(subject: Subject) -> TrainedClassifier:
    """Return the classifier of the subject's data from the cache, or train it and save it there.

    Of several processes the first one trains while the others wait. Without a cache, or without a SHA-256 that
    identifies the data, each process trains its own classifier, with the same weights as a result.

    Raises:
        NotApplicable: if there are no labels of two classes, or the images are smaller than 8x8.
        DataError: if the cache cannot be written.
    """
    labels = subject.splits["train"].labels
    if len(labels[labels >= 0].unique()) < 2:
        raise NotApplicable("extractor=classifier needs labels of at least two classes; use extractor=inception")
    if len(subject.model.shape) != 3 or min(subject.model.shape[1:]) < SMALLEST:
        raise NotApplicable(f"extractor=classifier needs images of at least {SMALLEST}x{SMALLEST} pixels")
    if subject.cache is None or "data_sha256" not in subject.data:
        return train(subject)
    facts = {"version": VERSION, **{key: subject.data[key] for key in SAME_DATA if key in subject.data}}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file = subject.cache / f"classifier-{digest[:16]}.pt"
    try:
        subject.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            problem = ""
            if file.exists():
                try:
                    return _read(file, facts, subject.model.shape)
                except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
                    problem = f"{file}: {first_line(error)}; the classifier was retrained"
            classifier = train(subject)
            _write(file, facts, classifier)
    except OSError as error:
        raise DataError(f"{subject.cache}: cannot be used ({error}); set NELBO_DATA to a writable directory") from error
    return replace(classifier, warnings=(problem,)) if problem else classifier


def _read(file: Path, facts: Mapping[str, Scalar], shape: Sequence[int]) -> TrainedClassifier:
    """Read a classifier from a cache file.

    Args:
        file: the cache file.
        facts: version and provenance that the file must have.
        shape: (C, H, W) of the images.

    Raises:
        ValueError: if the file holds the classifier of other data, or is damaged.
    """
    record: Any = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(record, dict) or record.get("facts") != facts:
        raise ValueError("was trained on other data")
    state = record["state"]
    if weights_sha256(state) != record["sha256"]:
        raise ValueError("the SHA-256 of the weights does not match")
    net = SmallClassifier(shape, len(state["head.bias"]))
    net.load_state_dict(state)
    return TrainedClassifier(net.eval().requires_grad_(False), record["sha256"], record["accuracy"])


def _write(file: Path, facts: Mapping[str, Scalar], classifier: TrainedClassifier) -> None:
    """Write a cache file atomically: under a temporary name that replaces the file at the end."""
    record = {
        "facts": facts,
        "state": classifier.net.state_dict(),
        "sha256": classifier.sha256,
        "accuracy": classifier.accuracy,
    }
    descriptor, scratch = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            torch.save(record, stream)
        os.replace(scratch, file)
    finally:
        Path(scratch).unlink(missing_ok=True)
