"""The classifier of a data set: trained once, kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from nelbo.errors import DataError, first_line
from nelbo.evaluation.classifier import VERSION, SmallClassifier, Trained, train, weights_sha256
from nelbo.evaluation.measure import NoMeaning, Scalar, Subject

SMALLEST = 8
SAME_DATA = ("data_sha256", "protocol", "split_seed", "train_images")


def trained(subject: Subject) -> Trained:
    """The classifier of the subject's data: from its cache, or trained now and kept there.

    The first of several processes trains it and the others wait. Without a cache, or a SHA-256 of the data to know
    them again by, each trains it for itself, to the same weights.

    Raises:
        NoMeaning: without labels, or for images below 8x8.
        DataError: if the cache cannot be written.
    """
    labels = subject.splits["train"].labels
    if len(labels[labels >= 0].unique()) < 2:
        raise NoMeaning("extractor=classifier needs images with labels of two classes or more: extractor=inception")
    if min(subject.model.shape[1:]) < SMALLEST:
        raise NoMeaning(f"extractor=classifier needs images of {SMALLEST}x{SMALLEST} pixels or more")
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
                    problem = f"{file}: {first_line(error)}; the classifier was trained again"
            found = train(subject)
            _write(file, facts, found)
    except OSError as error:
        raise DataError(
            f"{subject.cache}: cannot be used ({error}); set NELBO_DATA to a folder that can be written"
        ) from error
    return Trained(found.net, found.sha256, found.accuracy, (problem,) if problem else ())


def _read(file: Path, facts: Mapping[str, Scalar], shape: Sequence[int]) -> Trained:
    """The classifier in a file.

    Raises:
        ValueError: if it is another one, or damaged.
    """
    record: Any = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(record, dict) or record.get("facts") != facts:
        raise ValueError("it was trained on other data")
    state = record["state"]
    if weights_sha256(state) != record["sha256"]:
        raise ValueError("its weights do not have their SHA-256")
    net = SmallClassifier(shape, len(state["head.bias"]))
    net.load_state_dict(state)
    return Trained(net.eval().requires_grad_(False), record["sha256"], record["accuracy"])


def _write(file: Path, facts: Mapping[str, Scalar], found: Trained) -> None:
    """Whole or not at all."""
    record = {"facts": facts, "state": found.net.state_dict(), "sha256": found.sha256, "accuracy": found.accuracy}
    descriptor, scratch = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            torch.save(record, stream)
        os.replace(scratch, file)
    finally:
        Path(scratch).unlink(missing_ok=True)
