"""How the parts of a data set are called: what people write for training, validation and test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
CONTAINERS = {
    *("set", "sets", "data", "dataset", "datasets", "split", "folder", "dir", "x"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos"),
}
"""Words beside that of a split which leave a folder what the split says: `test_set`, `train_images`."""
RENAME = "rename them to train and test (val is optional), or move the classes into one folder called train"
WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
JOINED = re.compile(r"([xy])(\w+)")
"""As in Xtrain."""
RUN_TOGETHER = re.compile(rf"({'|'.join(sorted(SPLITS, key=len, reverse=True))})({'|'.join(CONTAINERS - {'x'})})")
"""As in trainset."""
NAMED = 4
"""How many folders a message names."""


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


def split_folders(names: Sequence[str], where: str) -> dict[str, str]:
    """The folders among `names` that are for training, validation and test, by that; empty where they are classes.

    `train_set` and `test_images` are splits like `train` and `test`, and so are folders that differ in the split's word
    alone (`seg_train`, `seg_test`). A class may hold such a word (`test_tube`): one kind of split is then no sign.

    Raises:
        DataError: if two are the same split, or they are called by splits and it is open by which.
    """
    exact = by_split(names, where)
    spoken = {name: _mentioned(name) for name in names}
    mentions = {name: mention for name, mention in spoken.items() if mention[0]}
    plain = {name: splits[0] for name, (splits, rest) in mentions.items() if len(splits) == 1 and rest <= CONTAINERS}
    if TRAIN not in plain.values():  # beside control_images, test_images is a class
        others = [rest for splits, rest in spoken.values() if not splits]
        plain = {
            name: split
            for name, split in plain.items()
            if name in exact.values() or not any(mentions[name][1] <= rest for rest in others)
        }
    complete = TRAIN in exact and len(exact) > 1
    found = dict(exact) if complete else {}
    for name, split in plain.items():
        if not complete:
            _refuse_two(found.get(split), name, split, where)
        found.setdefault(split, name)
    return found or _alike(mentions, len(mentions) == len(names) > 1, where)


def _alike(mentions: dict[str, tuple[list[str], frozenset[str]]], every: bool, where: str) -> dict[str, str]:
    """The folders by split that differ in its word alone; `every` says that there are several and no others.

    Raises:
        DataError: if there are several such groups, or one and more, or different splits in names that are not alike.
    """
    groups: dict[frozenset[str], set[str]] = {}
    for splits, rest in mentions.values():
        groups.setdefault(rest, set()).update(splits if len(splits) == 1 else ())
    whole = [rest for rest, group in groups.items() if TRAIN in group and len(group) > 1]
    mentioned = {split for splits, _ in mentions.values() for split in splits}
    if len(whole) == len(groups) == 1 and len(mentions) == len(groups[whole[0]]):
        return {splits[0]: name for name, (splits, _) in mentions.items()}
    if whole or (every and TRAIN in mentioned and len(mentioned) > 1):
        named = ", ".join([*mentions][:NAMED]) + (", ..." if len(mentions) > NAMED else "")
        raise DataError(f"{where}: has {named}, which do not tell what to train and to test on; {RENAME}")
    return {}


def _mentioned(name: str) -> tuple[list[str], frozenset[str]]:
    """The splits that a folder's name speaks of, and its other words in lower case."""
    words: list[str] = []
    for word in map(str.lower, WORD.findall(name)):
        joined = RUN_TOGETHER.fullmatch(word)
        words += joined.groups() if joined else [word]
    return [SPLITS[word] for word in words if word in SPLITS], frozenset(words).difference(SPLITS)


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
