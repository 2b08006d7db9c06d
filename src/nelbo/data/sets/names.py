"""Recognition of splits and contents by the usual names of folders, arrays and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nelbo.errors import DataError

TRAIN, VALIDATION, TEST, WHOLE = "train", "validation", "test", "whole"
IMAGES, LABELS, FACTORS = "images", "labels", "factors"
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
CONTENTS = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "data"), IMAGES),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), LABELS),
    **dict.fromkeys(("factor", "factors"), FACTORS),
}
CONTAINERS = {
    *("set", "sets", "data", "dataset", "datasets", "split", "folder", "dir", "x"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos"),
}
"""Words that may be added to the name of a split without changing its meaning: `test_set`, `train_images`."""

RENAME = "rename them to train and test (val is optional), or move the classes into one folder named train"
WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")

CONTENT_AND_SPLIT = re.compile(r"([xy])(\w+)")
"""Content and split written as one word, as in Xtrain."""

SPLIT_AND_CONTAINER = re.compile(
    rf"({'|'.join(sorted(SPLITS, key=len, reverse=True))})({'|'.join(CONTAINERS - {'x'})})"
)
"""Split and container written as one word, as in trainset."""

NAMED = 4
"""Maximum number of folders that a message lists."""


def split_of(name: str) -> str | None:
    """Return the split that a folder, or a split of the hub, is named after, in any case; None for other names."""
    return SPLITS.get(name.lower())


def role_of(name: str) -> tuple[str, str] | None:
    """Return which split and which content an array holds, judged from its name.

    Returns:
        (`TRAIN`, `VALIDATION`, `TEST` or `WHOLE`, `IMAGES`, `LABELS` or `FACTORS`), or None for any other name.

    Example:
        >>> role_of("x_train"), role_of("testLabels"), role_of("images"), role_of("weights")
        (('train', 'images'), ('test', 'labels'), ('whole', 'images'), None)
    """
    words: list[str] = []
    for word in map(str.lower, WORD.findall(name)):
        joined = CONTENT_AND_SPLIT.fullmatch(word)
        words += joined.groups() if joined and joined[2] in SPLITS else [word]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    contents = [CONTENTS[word] for word in words if word in CONTENTS]
    if not words or len(splits) > 1 or len(contents) > 1 or len(words) > len(splits) + len(contents):
        return None
    return (splits or [WHOLE])[0], (contents or [IMAGES])[0]


def by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """Return the names of the training, validation and test splits among `names`, by split.

    Args:
        names: names of folders, or of splits of the hub.
        where: the folder or data set, for errors.

    Raises:
        DataError: if two names mean the same split.
    """
    splits: dict[str, str] = {}
    for name in names:
        if split := split_of(name):
            _refuse_two(splits.get(split), name, split, where)
            splits[split] = name
    return splits


def split_folders(names: Sequence[str], where: str) -> dict[str, str]:
    """Return the folders among `names` that are splits, by split; empty if the folders are classes.

    Besides `train` and `test`, names such as `train_set` and `test_images` mean splits, and so do names that are equal
    except for the word of the split (`seg_train`, `seg_test`). A class may contain such a word too (`test_tube`), so
    names with a single kind of split are not taken for splits.

    Args:
        names: names of the folders in a folder.
        where: that folder, for errors.

    Raises:
        DataError: if two folders are the same split, or it is ambiguous which folders are splits.

    Example:
        >>> split_folders(["seg_train", "seg_test"], "pictures")
        {'train': 'seg_train', 'test': 'seg_test'}
        >>> split_folders(["beaker", "test_tube"], "pictures")
        {}
    """
    exact = by_split(names, where)
    words = {name: _split_words(name) for name in names}
    mentions = {name: mention for name, mention in words.items() if mention[0]}
    plain = {name: splits[0] for name, (splits, rest) in mentions.items() if len(splits) == 1 and rest <= CONTAINERS}
    if TRAIN not in plain.values():  # test_images is a class if there is a folder control_images
        others = [rest for splits, rest in words.values() if not splits]
        plain = {
            name: split
            for name, split in plain.items()
            if name in exact.values() or not any(mentions[name][1] <= rest for rest in others)
        }
    complete = TRAIN in exact and len(exact) > 1
    folders = dict(exact) if complete else {}
    for name, split in plain.items():
        if not complete:
            _refuse_two(folders.get(split), name, split, where)
        folders.setdefault(split, name)
    return folders or _similar_names(mentions, len(mentions) == len(names) > 1, where)


def _similar_names(mentions: dict[str, tuple[list[str], frozenset[str]]], every: bool, where: str) -> dict[str, str]:
    """Return folders, by split, whose names are equal except for the word of the split.

    Args:
        mentions: for each folder whose name contains a split, these splits and the other words of its name.
        every: whether these are all folders, and more than one.
        where: the folder that they are in, for errors.

    Raises:
        DataError: if it is ambiguous which folders are splits: there are several groups of similar names, folders
            besides one group, or different splits in names that are not similar.
    """
    groups: dict[frozenset[str], set[str]] = {}
    for splits, rest in mentions.values():
        groups.setdefault(rest, set()).update(splits if len(splits) == 1 else ())
    complete = [rest for rest, group in groups.items() if TRAIN in group and len(group) > 1]
    mentioned = {split for splits, _ in mentions.values() for split in splits}
    if len(complete) == len(groups) == 1 and len(mentions) == len(groups[complete[0]]):
        return {splits[0]: name for name, (splits, _) in mentions.items()}
    if complete or (every and TRAIN in mentioned and len(mentioned) > 1):
        listed = ", ".join([*mentions][:NAMED]) + (", ..." if len(mentions) > NAMED else "")
        raise DataError(f"{where}: it is ambiguous which of {listed} is for training; {RENAME}")
    return {}


def _split_words(name: str) -> tuple[list[str], frozenset[str]]:
    """Return the splits that are words of a folder's name, and its other words in lower case."""
    words: list[str] = []
    for word in map(str.lower, WORD.findall(name)):
        joined = SPLIT_AND_CONTAINER.fullmatch(word)
        words += joined.groups() if joined else [word]
    return [SPLITS[word] for word in words if word in SPLITS], frozenset(words).difference(SPLITS)


def roles_of(names: Iterable[str], where: str) -> dict[tuple[str, str], str]:
    """Return the arrays among `names` by split and content.

    Of several arrays of labels, or of factors, for a split it is the first.

    Args:
        names: names of arrays.
        where: their file, for errors.

    Raises:
        DataError: if two arrays hold images of the same split.
    """
    roles: dict[tuple[str, str], str] = {}
    for name in names:
        if (role := role_of(name)) and not (role in roles and role[1] != IMAGES):
            _refuse_two(roles.get(role), name, " ".join(role), where)
            roles[role] = name
    return roles


def _refuse_two(first: str | None, second: str, role: str, where: str) -> None:
    """Raise an error if there is a first name for `role` already."""
    if first is not None:
        raise DataError(f"{where}: {first} and {second} are both {role}; remove or rename one of them")
