"""A run's directory, or a checkpoint alone, back to a model and the data that it was trained on."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from yaml import YAMLError

from nelbo.checkpoints.load import build_model
from nelbo.checkpoints.record import RECORD, checkpoint_file, read_checkpoint
from nelbo.config.build import build, user_prefixes
from nelbo.data.fetch import cache_directory
from nelbo.data.module import ImageData
from nelbo.directories.logs import UNIT_HISTORY
from nelbo.directories.names import METRICS
from nelbo.errors import CheckpointError, ConfigError, DataError, choice, first_line
from nelbo.evaluation.measure import Subject
from nelbo.files import read_json
from nelbo.finished.moved import DATA_PREFIXES, moved, with_hint
from nelbo.models import VAE

SPLITS = ("test", "val", "train")
SAME_DATA = ("data", "protocol", "data_sha256", "split_seed", "train_images", "val_images", "test_images")
"""What the data must have in common with that of the training; all of it is in a checkpoint's provenance."""


class ImageSplit:
    """A split of a data module, as the model sees it (`nelbo.evaluation.measure.Split`)."""

    def __init__(self, data: ImageData, split: str) -> None:
        self._data, self._split, self._examples = data, split, data.splits[split]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, positions: Tensor) -> Tensor:
        x, _ = self._data.present(self._split, self._examples.__getitems__(positions))
        return x

    @property
    def labels(self) -> Tensor:
        """All labels, (N,); -1 where there are none."""
        return self._chosen(self._examples.labels)

    @property
    def factors(self) -> Tensor | None:
        """All known factors of variation, (N, F), where there are any."""
        return None if self._examples.factors is None else self._chosen(self._examples.factors)

    def _chosen(self, values: Tensor) -> Tensor:
        return values if self._examples.indices is None else values[self._examples.indices]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A checkpoint that was read.

    Args:
        file: where it lies.
        record: what it says of itself: model, data, seed, provenance, in plain containers.
        step: of training, at which it was written.
        model: in eval mode, on the CPU.
        allow: packages of one's own that its data may be made by.
        moved: where its data lie now, as it is typed behind `data.`; None if they lie where they did.
    """

    file: Path
    record: Mapping[str, Any]
    step: int
    model: VAE
    allow: Sequence[str] = ()
    moved: Mapping[str, Any] | None = None

    @classmethod
    def open(
        cls, path: str | Path, allow: Sequence[str] = (), moved: Mapping[str, Any] | None = None, key: str = ""
    ) -> FinishedRun:
        """Read a run directory (its best.ckpt) or a checkpoint.

        Args:
            path: it.
            allow: packages of one's own that model and data may be made of, as of `nelbo.load`.
            moved: where its data lie now, if elsewhere.
            key: behind which the path was typed, if it was.

        Raises:
            CheckpointError: if there is none, or it was not written by nelbo, or it is damaged.
            ConfigError: if `allow` is not a list of packages.
        """
        file = checkpoint_file(path, key)
        checkpoint = read_checkpoint(file)
        record = checkpoint[RECORD]
        if not all(isinstance(record.get(key), dict) for key in ("data", "provenance")):
            raise CheckpointError(f"{file}: does not say what data it was trained on; train it again")
        model = build_model(checkpoint, file, allow)
        return cls(file, record, int(checkpoint.get("global_step", 0)), model, allow, moved)

    @property
    def folder(self) -> Path:
        """The run's directory; of a checkpoint that lies elsewhere, the folder that it is in."""
        return self.file.parent.parent if self.file.parent.name == "checkpoints" else self.file.parent

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Name, protocol, splits and SHA-256 of the data that it was trained on."""
        provenance: Mapping[str, Any] = self.record["provenance"]
        return provenance

    @cached_property
    def sha256(self) -> str:
        """Of the checkpoint's file."""
        with self.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def steps(self) -> int | None:
        """Optimiser steps of the whole run, as its metrics.json says; else those of the checkpoint, if it says any."""
        return read_json(self.folder / METRICS).get("steps") or self.step or None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The run's config, in plain containers; without a run's directory, what the checkpoint has of it."""
        file = self.folder / "config.yaml"
        if not file.is_file():
            return {key: value for key, value in self.record.items() if key != "provenance"}
        try:
            found = OmegaConf.to_container(OmegaConf.load(file))
        except (OSError, ValueError, YAMLError) as error:
            raise CheckpointError(f"{file}: cannot be read: {first_line(error)}") from error
        if not isinstance(found, dict):
            raise CheckpointError(f"{file}: is not a run's config")
        return {str(key): value for key, value in found.items()}

    @cached_property
    def data(self) -> ImageData:
        """The data, set up.

        Raises:
            DataError: if it cannot be had, or is not what the model was trained on.
            ConfigError: if the checkpoint asks for what this version does not have, or may not have.
        """
        allowed = (*DATA_PREFIXES, *user_prefixes("allow_targets", self.allow))
        data = build(moved(self.record["data"], self.moved, allowed), "data", allowed)
        if not isinstance(data, ImageData):
            raise CheckpointError(f"{self.file}: what it calls its data is a {type(data).__name__}")
        try:
            data.setup()
        except ConfigError as error:
            raise with_hint(error) from error.__cause__
        except DataError as error:
            raise DataError(f"{self.file}: its data cannot be had: {error}") from error
        found = data.provenance()
        for key in SAME_DATA:
            if found[key] != self.provenance.get(key):
                told = f"{key} was {self.provenance.get(key)} in training and is {found[key]} now"
                raise DataError(f"{self.file}: {data.name} is not the data that it was trained on: {told}")
        return data

    @cached_property
    def unit_kl_history(self) -> dict[int, list[float]]:
        """KL of each unit on the validation set by epoch, where the run wrote it."""
        file = self.folder / UNIT_HISTORY
        if not file.is_file():
            return {}
        with file.open(newline="") as stream:
            rows = list(csv.reader(stream))[1:]
        try:
            history = {int(epoch): [float(value) for value in values] for epoch, *values in rows}
        except ValueError as error:
            raise CheckpointError(f"{file}: is damaged ({first_line(error)}); move it away") from error
        if any(len(values) != self.model.latent_dim for values in history.values()):
            raise CheckpointError(f"{file}: has not {self.model.latent_dim} units in each row; move it away")
        return history

    def subject(self, *, split: str, device: str, name: str = "", **rest: Any) -> Subject:
        """The model and its data, to be measured; `rest` goes to `Subject`.

        Raises:
            ConfigError: for a split or device that there is not.
            DataError: as `data` does.
        """
        if not len(self.data.splits[choice("split", split, SPLITS)]):
            raise ConfigError("split", split, "holds no images; the run was trained with data.validation_size=0")
        place = torch_device(device)
        return Subject(
            name=name or self.folder.name,
            model=self.model.to(place),
            splits={name: ImageSplit(self.data, name) for name in SPLITS},
            split=split,
            device=place,
            data=self.data.provenance(),
            checkpoint=self.sha256,
            classes=self.data.classes,
            dequantized_levels=self.data.dequantized_levels,
            config=self.config,
            steps=self.steps,
            unit_kl_history=self.unit_kl_history,
            cache=cache_directory() / "extractors",
            **rest,
        )


def torch_device(device: str) -> torch.device:
    """`auto` is the accelerator that torch can use, be it CUDA, MPS or another, and the CPU where there is none.

    Processes that torchrun started take turns at several.

    Args:
        device: `auto`, or a device as torch names it: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, ...

    Raises:
        ConfigError: if torch knows no such device, or cannot use it here.
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        place = here or torch.device("cpu")
    else:
        try:
            place = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                "device", device, "must be auto, or as torch names it: cpu, cuda, cuda:1, mps, ..."
            ) from error
    if place.type == "cpu":
        return torch.device("cpu")
    if here is None or place.type != here.type:
        raise ConfigError("device", device, f"torch cannot use it here: device={'cpu' if here is None else here.type}")
    count = torch.accelerator.device_count()
    if place.index is not None and place.index >= count:
        raise ConfigError("device", device, f"there are {count} here: device={here.type} takes one")
    index = int(os.environ.get("LOCAL_RANK", "0")) % count if place.index is None else place.index
    return torch.device(here.type, index)
