"""`data=huggingface`: a set of the Hugging Face hub, or a folder in one of its formats, read once into a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.pictures import check_pixels, to_pixels
from nelbo.data.store import Chunk, Store, fingerprint
from nelbo.errors import ConfigError, DataError, first_line

CHUNK = 512


def huggingface(
    name: str | None, split: str | None, streaming: bool, image_size: int, channels: int, test_size: float, seed: int
) -> Arrays:
    """The pictures of a set; its first column of classes is the label.

    Args:
        name: of the set on the hub, or a local folder that `datasets.load_dataset` understands.
        split: None takes `train`, and `test` if there is one; anything else is taken whole and split by `seed`.
        streaming: read it from start to end without keeping its original files.
        image_size: height and width, to which pictures are cropped and resized.
        channels: 1 or 3.
        test_size: how many pictures, or which share of them, are the test set where the set has none.
        seed: of that choice.

    Raises:
        ConfigError: if the package is missing, there is no such set, or a number is out of range.
        DataError: if it holds no pictures, or one cannot be read.
    """
    image_size, channels = check_pixels(image_size, channels)
    if not name:
        raise ConfigError("name", name, "give a set of the hub or a folder: data.name=ORGANISATION/SET")
    try:
        import datasets
    except ImportError as error:
        mend = "needs the package datasets: pip install 'nelbo[huggingface]'"
        raise ConfigError("data", "huggingface", mend, located=True) from error
    datasets.disable_progress_bars()
    for library in ("datasets", "huggingface_hub"):  # they announce each of their retries
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        loaded = datasets.load_dataset(name, split=split, streaming=streaming)
    except Exception as error:  # the hub's library raises its own, the network's and the file formats' errors
        raise ConfigError("name", name, f"cannot be loaded by the datasets library: {first_line(error)}") from error
    parts = {"all": loaded} if split else dict(loaded)
    if not split and "train" not in parts:
        raise ConfigError("split", split, f"{name} has no train split; choose one of {', '.join(parts)}")
    settings = [name, streaming, image_size, channels]
    if split or "test" not in parts:
        examples, classes = _part(parts["all" if split else "train"], [*settings, split or "train"])
        return split_off_test(examples, test_size, seed, classes)
    train, classes = _part(parts["train"], [*settings, "train"])
    test, _ = _part(parts["test"], [*settings, "test"])
    return Arrays(train, test, classes=tuple(classes))


def _part(rows: Any, settings: list[Any]) -> tuple[Examples, list[str]]:
    import datasets

    columns = dict(rows.features or {})
    images = next((key for key, kind in columns.items() if isinstance(kind, datasets.Image)), None)
    if images is None:
        raise DataError(f"{settings[0]}: has no column of images, only {', '.join(columns)}")
    label = next((key for key, kind in columns.items() if isinstance(kind, datasets.ClassLabel)), None)
    classes = list(columns[label].names) if label else []
    # The library's fingerprint follows the content, but only of sets that it has prepared; streams have none.
    version = getattr(rows, "_fingerprint", None) or str(rows.info.version)
    identity = {"settings": settings, "version": version, "files": _listing(Path(settings[0]))}
    store = Store(cache_directory() / "huggingface" / fingerprint(*settings), identity)
    _, _, image_size, channels, _ = settings
    make = partial(_chunks, rows, images, label, image_size, channels)
    count = rows.num_rows if hasattr(rows, "num_rows") else 0
    return store.open(make, count * channels * image_size**2), classes


def _listing(folder: Path) -> str:
    """Changes with the files of a local folder, which a stream does not tell."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return fingerprint(*((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def _chunks(rows: Any, images: str, label: str | None, image_size: int, channels: int) -> Iterator[Chunk]:
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for number, row in enumerate(tqdm(rows, unit="image", disable=None, leave=False)):
        try:
            pixels.append(to_pixels(row[images], image_size, channels))
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"row {number}: its picture cannot be read ({first_line(error)})") from error
        labels.append(row[label] if label else UNLABELLED)
        if len(pixels) == CHUNK:
            yield Chunk(np.stack(pixels), np.array(labels))
            pixels, labels = [], []
    if pixels:
        yield Chunk(np.stack(pixels), np.array(labels))
