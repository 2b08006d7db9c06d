"""The data set `data=huggingface`: images of the Hugging Face Hub, converted once to a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.labels import LEFT_OUT
from nelbo.data.progress import ProgressBar
from nelbo.data.sets.names import TEST, TRAIN, VALIDATION, by_split
from nelbo.data.sets.pictures import (
    RULES,
    ImageSize,
    check_pixels,
    chunk_size,
    picture_bytes,
    pictures_up_to,
    read_picture,
)
from nelbo.data.sets.sixteen_bits import SixteenBits
from nelbo.data.store import Chunk, Store, fingerprint, version
from nelbo.errors import ConfigError, DataError, boolean, first_line

log = logging.getLogger(__name__)


def huggingface(
    name: str | None,
    split: str | None,
    streaming: bool,
    image_size: int | Sequence[int],
    channels: int,
    max_megapixels: float,
    test_size: float,
    seed: int,
) -> Arrays:
    """Read the images of a Hugging Face data set; the first column of classes holds the labels.

    Args:
        name: name of the data set on the hub, or a local folder that `datasets.load_dataset` understands.
        split: the split to read, from which a test set is drawn; None for the training, validation and test splits, of
            which the last two are optional.
        streaming: whether to read the data set from start to end without storing its original files.
        image_size: height and width in pixels to which pictures are cropped and resized, or a list of both.
        channels: 1 or 3.
        max_megapixels: maximum size of a picture; larger ones are refused.
        test_size: number of pictures that become the test set if there is none, or their share below 1.
        seed: seed of that choice.

    Raises:
        ConfigError: if the package `datasets` is missing, the data set cannot be loaded, or a number is out of range.
        DataError: if it holds no pictures, or one cannot be read.
    """
    size, channels = check_pixels(image_size, channels)
    streaming = boolean("streaming", streaming)
    if not name:
        raise ConfigError("name", name, "must name a data set of the hub, or a folder: data.name=ORGANISATION/SET")
    loaded = _load(name, split, streaming)
    settings = [name, streaming, size, channels]
    with pictures_up_to(max_megapixels):
        if split:
            examples, classes, _ = _part([loaded], [*settings, split])
            return split_off_test(examples, test_size, seed, classes)
        parts = by_split(loaded, name)
        if TRAIN not in parts:
            raise ConfigError("split", split, f"{name} has no train split; choose one of {', '.join(loaded)}")
        if unused := [key for key in loaded if key not in parts.values()]:
            log.warning("%s: splits that are not used: %s", name, ", ".join(unused))
        names = [parts[key] for key in (TRAIN, VALIDATION) if key in parts]
        train, classes, validation = _part([loaded[key] for key in names], [*settings, "+".join(names)])
        if TEST not in parts:
            return split_off_test(train, test_size, seed, classes, validation)
        test, _, _ = _part([loaded[parts[TEST]]], [*settings, parts[TEST]])
    return Arrays(train, test, validation, tuple(classes))


def _load(name: str, split: str | None, streaming: bool) -> Any:
    """Load a split, or all splits by name, with the `datasets` library.

    Raises:
        ConfigError: if the library is missing, or cannot load the data set.
    """
    try:
        import datasets
    except ImportError as error:
        hint = "needs a package: pip install datasets"
        raise ConfigError("data", "huggingface", hint, located=True) from error
    datasets.disable_progress_bars()
    for library in ("datasets", "huggingface_hub"):  # they log a line for each retry
        logging.getLogger(library).setLevel(logging.ERROR)
    if streaming and split and "[" in split:
        raise ConfigError("split", split, "a stream has no slices: use a whole split, or data.streaming=false")
    try:
        return datasets.load_dataset(name, split=split, streaming=streaming)
    except Exception as error:  # exceptions of the library, of the network, and of file formats
        key, value = ("split", split) if split and "split" in first_line(error).lower() else ("name", name)
        raise ConfigError(key, value, f"cannot be loaded by the datasets library: {first_line(error)}") from error


def _part(parts: list[Any], settings: list[Any]) -> tuple[Examples, list[str], int]:
    """Return the examples of one or two splits from a store in the cache.

    Args:
        parts: one split, or the training and the validation split, as the `datasets` library returns them.
        settings: name of the data set, streaming, image size, channels and names of the splits.

    Returns:
        The examples, the names of the classes, and how many of the last examples are for validation.
    """
    import datasets

    columns = dict(parts[0].features or {})
    images = next((key for key, kind in columns.items() if isinstance(kind, datasets.Image)), None)
    if images is None:
        raise DataError(f"{settings[0]}: has no column of images, only {', '.join(columns)}")
    label = next((key for key, kind in columns.items() if isinstance(kind, datasets.ClassLabel)), None)
    classes = list(columns[label].names) if label else []
    if label is None and (others := [key for key in columns if key != images]):
        log.warning("%s: no column of classes among %s: %s", settings[0], ", ".join(others), LEFT_OUT)
    # The library's fingerprint depends on the content, but streams have none.
    versions = [getattr(rows, "_fingerprint", None) or str(rows.info.version) for rows in parts]
    identity = [RULES, *versions, _listing(Path(settings[0]))]
    store = Store(cache_directory() / "huggingface" / fingerprint(*settings), identity)
    name, _, image_size, channels, _ = settings

    def make() -> Iterator[Chunk]:
        sixteen_bits = SixteenBits()
        for number, rows in enumerate(parts):
            empty = True
            undecoded = rows.cast_column(images, datasets.Image(decode=False))
            for chunk in _chunks(name, undecoded, images, label, image_size, channels, sixteen_bits):
                empty = False
                yield replace(chunk, validation=number > 0, sixteen_bits=sixteen_bits.largest)
            if empty and number == 0:
                raise DataError(f"{name}: its split {settings[-1]} holds no pictures; choose another with data.split")
            if empty:
                log.warning("%s: its validation split holds no pictures, so it is not used", name)
        sixteen_bits.check(name)

    count = sum(rows.num_rows if hasattr(rows, "num_rows") else 0 for rows in parts)
    return store.open(make, count * picture_bytes(image_size, channels)), classes, store.validation()


def _listing(folder: Path) -> str:
    """Return a fingerprint of the files in a local folder, because a stream does not show that they changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return fingerprint(*(version(file) for file in files))


def _chunks(
    name: str,
    rows: Any,
    images: str,
    label: str | None,
    image_size: ImageSize,
    channels: int,
    sixteen_bits: SixteenBits,
) -> Iterator[Chunk]:
    """Read the pictures and labels of a split.

    Args:
        name: name of the data set, for messages.
        rows: the split, with pictures that are not decoded.
        images: name of the column of pictures.
        label: name of the column of classes; None if there is none.
        image_size: height and width of the images, or (H, W).
        channels: number of channels of the images.
        sixteen_bits: collects the pictures with 16 bits.

    Raises:
        DataError: if a picture is missing or cannot be read.
    """
    size = chunk_size(image_size, channels)
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for number, row in enumerate(_iterate(name, ProgressBar(rows, desc=name, unit="image", disable=None, leave=False))):
        content = row[images]
        if content is None:
            raise DataError(f"{name}: row {number} has no picture; choose a split without this row")
        source = io.BytesIO(content["bytes"]) if content["bytes"] is not None else content["path"]
        picture = read_picture(source, image_size, channels)
        if isinstance(picture, str):
            raise DataError(f"{name}: the picture of row {number} cannot be read ({picture}); repair or remove it")
        sixteen_bits.add(f"row {number}", picture)
        pixels.append(picture.pixels)
        labels.append(UNLABELLED if label is None or row[label] is None else row[label])
        if len(pixels) == size:
            yield Chunk(np.stack(pixels), np.array(labels))
            pixels, labels = [], []
    if pixels:
        yield Chunk(np.stack(pixels), np.array(labels))


def _iterate(name: str, rows: Any) -> Iterator[dict[str, Any]]:
    """Yield rows; an error in fetching them becomes a DataError with the data set's name."""
    try:
        yield from rows
    except Exception as error:
        raise DataError(f"{name}: cannot be read to its end ({first_line(error)}); run the command again") from error
