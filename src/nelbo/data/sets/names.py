"""How the parts of a data set are called: what people write for training, validation and test."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nelbo.errors import DataError

TRAIN, VALIDATION, TEST, WHOLE = "train", "validation", "test", "whole"
IMAGES, LABELS = "images", "labels"
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
CONTENTS = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "data"), IMAGES),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), LABELS),
}
WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
JOINED = re.compile(r"([xy])(\w+)")
"""As in Xtrain."""


def split_of(name: str) -> str | None:
    """Which split a folder or a split of the hub is, in whatever case; None for any other name."""
    return SPLITS.get(name.lower())


def role_of(name: str) -> tuple[str, str] | None:
    """Which split of which content an array is: of `x_train`, `trainImages` or `Train` the images to train on.

    Returns:
        (`TRAIN`, `VALIDATION`, `TEST` or `WHOLE`, `IMAGES` or `LABELS`), or None for any other name.
    """
    words: list[str] = []
    for word in map(str.lower, WORD.findall(name)):
        joined = JOINED.fullmatch(word)
        words += joined.groups() if joined and joined[2] in SPLITS else [word]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    contents = [CONTENTS[word] for word in words if word in CONTENTS]
    if not words or len(splits) > 1 or len(contents) > 1 or len(words) > len(splits) + len(contents):
        return None
    return (splits or [WHOLE])[0], (contents or [IMAGES])[0]


def by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """The folders or splits among `names` that are for training, validation and test, by that.

    Raises:
        DataError: if two are the same split.
    """
    found: dict[str, str] = {}
    for name in names:
        if split := split_of(name):
            _refuse_two(found.get(split), name, split, where)
            found[split] = name
    return found


def roles_of(names: Iterable[str], where: str) -> dict[tuple[str, str], str]:
    """The arrays among `names` by their role; of two with labels for the same images the first.

    Raises:
        DataError: if two hold the same images.
    """
    found: dict[tuple[str, str], str] = {}
    for name in names:
        if (role := role_of(name)) and not (role in found and role[1] == LABELS):
            _refuse_two(found.get(role), name, " ".join(role), where)
            found[role] = name
    return found


def _refuse_two(first: str | None, second: str, role: str, where: str) -> None:
    if first is not None:
        raise DataError(f"{where}: {first} and {second} are both {role}; remove or rename one of them")
