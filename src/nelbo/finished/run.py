"""A finished run: the model of a run's directory or checkpoint, and the data that it was trained on."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from yaml import YAMLError

from nelbo.checkpoints.load import build_model
from nelbo.checkpoints.record import FOLDED, RECORD, checkpoint_file, folded_at, read_checkpoint
from nelbo.config.build import build, user_prefixes
from nelbo.data.fetch import cache_directory
from nelbo.data.run_data import RunData
from nelbo.directories.logs import UNIT_HISTORY
from nelbo.directories.names import METRICS
from nelbo.errors import CheckpointError, ConfigError, DataError, choice, first_line
from nelbo.evaluation.conditional import ConditionalModel
from nelbo.evaluation.masked import for_measures
from nelbo.evaluation.measure import Subject
from nelbo.files import read_json
from nelbo.finished.data_location import DATA_PREFIXES, relocated, with_hint
from nelbo.finished.splits import ImageSplit
from nelbo.models import Context, Model
from nelbo.models.conditioning import given_of
from nelbo.trace import unit_names

SPLITS = ("test", "val", "train")
SAME_DATA = ("data", "protocol", "data_sha256", "split_seed", "train_images", "val_images", "test_images")
"""The entries of a checkpoint's provenance that must be the same for its data."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run, of which one checkpoint is read.

    Args:
        file: the checkpoint's file.
        record: the checkpoint's record: model, data, seed and provenance, in plain containers.
        step: the training step at which the checkpoint was written.
        model: the model, in eval mode, on the CPU.
        allow: packages of the user's own that the data may be made of.
        moved: new options of the data's source by name, if the data were moved; None if not.
        setting: the setting that the model is bound to or folded at, by name, if it was trained for many.
    """

    file: Path
    record: Mapping[str, Any]
    step: int
    model: Model
    allow: Sequence[str] = ()
    moved: Mapping[str, Any] | None = None
    setting: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        path: str | Path,
        allow: Sequence[str] = (),
        moved: Mapping[str, Any] | None = None,
        key: str = "",
        setting: Mapping[str, Any] | None = None,
    ) -> FinishedRun:
        """Read a run directory (its best.ckpt) or a checkpoint.

        Args:
            path: the directory or the file.
            allow: packages of the user's own that model and data may be made of, as in `nelbo.load`.
            moved: new options of the data's source by name, if the data were moved.
            key: the config key to name in errors, if the path was typed.
            setting: what to bind of a model that was trained for many settings, such as `{"beta": 0.5}`.

        Raises:
            CheckpointError: if there is no checkpoint, it was not written by nelbo, or it is damaged.
            ConfigError: if `allow` is not a list of packages, or the model was not trained for the setting.
        """
        file = checkpoint_file(path, key)
        checkpoint = read_checkpoint(file)
        record = checkpoint[RECORD]
        if not all(isinstance(record.get(key), dict) for key in ("data", "provenance")):
            raise CheckpointError(f"{file}: does not record its training data; train it again")
        model, at = build_model(checkpoint, file, allow), folded_at(record, file)
        if setting:
            if not isinstance(setting, Mapping):
                raise ConfigError("at", setting, "needs names: at.beta=0.5, at.latent_dim=8")
            try:
                model = model.at(**setting)
            except ConfigError as error:
                name = error.value if error.key == "context" else error.key
                raise ConfigError(f"at.{name}", setting.get(str(name)), f"{error.hint} ({file})") from error.__cause__
        return cls(file, record, int(checkpoint.get("global_step", 0)), model, allow, moved, setting or at)

    @property
    def folder(self) -> Path:
        """The run's directory; for a checkpoint elsewhere, the folder that contains it."""
        return self.file.parent.parent if self.file.parent.name == "checkpoints" else self.file.parent

    @property
    def setting_name(self) -> str:
        """The setting that the model is bound to or folded at, such as "beta=0.5,latent_dim=8"; empty without one."""
        return ",".join(f"{key}={shown_value(value)}" for key, value in sorted(self.setting.items()))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The name, protocol, splits and SHA-256 of the training data."""
        provenance: Mapping[str, Any] = self.record["provenance"]
        return provenance

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 digest of the checkpoint's file."""
        with self.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def steps(self) -> int | None:
        """The optimiser steps of the whole run, from its metrics.json, or those of the checkpoint; None if unknown."""
        return read_json(self.folder / METRICS).get("steps") or self.step or None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The run's config, in plain containers; for a checkpoint alone, the parts that the checkpoint records.

        So too for a folded model, which is another than that of config.yaml.

        Raises:
            CheckpointError: if config.yaml is damaged.
        """
        file = self.folder / "config.yaml"
        if FOLDED in self.record or not file.is_file():
            return {key: value for key, value in self.record.items() if key != "provenance"}
        try:
            config = OmegaConf.to_container(OmegaConf.load(file))
        except (OSError, ValueError, YAMLError) as error:
            raise CheckpointError(f"{file}: cannot be read: {first_line(error)}") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"{file}: is not a run's config")
        return {str(key): value for key, value in config.items()}

    @cached_property
    def data(self) -> RunData:
        """The data module, set up.

        Raises:
            DataError: if the data cannot be loaded, or are not those that the model was trained on.
            ConfigError: if the checkpoint names objects that do not exist in this version, or are not allowed.
        """
        allowed = (*DATA_PREFIXES, *user_prefixes("allow_targets", self.allow))
        data = build(relocated(self.record["data"], self.moved, allowed), "data", allowed)
        if not isinstance(data, RunData):
            raise CheckpointError(f"{self.file}: its data are not a RunData but a {type(data).__name__}")
        try:
            data.setup()
        except ConfigError as error:
            raise with_hint(error) from error.__cause__
        except DataError as error:
            raise DataError(f"{self.file}: its data cannot be loaded: {error}") from error
        current = data.provenance()
        for key in SAME_DATA:
            if current.get(key) != self.provenance.get(key):
                fact = f"{key} was {self.provenance.get(key)} in training and is {current.get(key)} now"
                raise DataError(f"{self.file}: {data.name} is not the data that it was trained on: {fact}")
        return data

    @cached_property
    def unit_kl_history(self) -> dict[int, list[float]]:
        """The KL of each latent unit on the validation set in nats, by epoch; empty without such a file, or if folded.

        It is NaN for the units of a level that has no KL of single units, beside others that have.

        Raises:
            CheckpointError: if the file is damaged.
        """
        file = self.folder / UNIT_HISTORY
        if FOLDED in self.record or not file.is_file():
            return {}
        with file.open(newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
        levels = unit_names([event[0] for event in self.model.events])
        present = [level for level in levels if level[0] in header]
        try:
            history = {int(epoch): [float(value) for value in values] for epoch, *values in rows}
        except ValueError as error:
            raise CheckpointError(f"{file}: is damaged ({first_line(error)}); move it away") from error
        names = [name for level in present for name in level]
        if header[1:] != names or not names or any(len(values) != len(names) for values in history.values()):
            raise CheckpointError(f"{file}: does not have {self.model.units} units in each row; move it away")
        unknown = dict.fromkeys((name for level in levels for name in level), math.nan)
        return {epoch: list((unknown | dict(zip(names, row, strict=True))).values()) for epoch, row in history.items()}

    def subject(self, *, split: str, device: str, name: str = "", **rest: Any) -> Subject:
        """Return the model and its data as the subject of measures.

        Args:
            split: the split to evaluate.
            device: the device, as in `torch_device`.
            name: the name of the run in tables; by default that of its folder.
            **rest: further arguments of `Subject`.

        Raises:
            ConfigError: for an unknown split or device, or a split without images.
            DataError: if the data cannot be loaded, or are not those that the model was trained on.
        """
        if not len(self.data.splits[choice("split", split, SPLITS)]):
            raise ConfigError("split", split, "holds no images; the run was trained with data.validation_size=0")
        place = torch_device(device)
        return Subject(
            name=name or self.folder.name,
            model=self._for_measures(place),
            splits={name: ImageSplit(self.data, name) for name in SPLITS},
            split=split,
            device=place,
            data={**self.data.provenance(), **self.given_of_data},
            checkpoint=self.sha256,
            classes=self.data.classes,
            dequantized_levels=self.data.dequantized_levels,
            config=self.config,
            steps=self.steps,
            unit_kl_history=self.unit_kl_history,
            cache=cache_directory() / "extractors",
            **rest,
        )

    @property
    def given_of_data(self) -> dict[str, str]:
        """What of the data the model is conditioned on and is not bound, as an entry of the provenance of results."""
        return given_of(self.model)

    def _for_measures(self, place: torch.device) -> Model:
        """Return the model on a device; one that is conditioned on the data takes the condition of each image."""
        model = self.model.to(place)
        return ConditionalModel(model, self._draw_context) if self.given_of_data else for_measures(model)

    def _draw_context(self, count: int) -> Context:
        """Return the conditions of training images drawn at random, (count, ...) each, on the model's device."""
        split = ImageSplit(self.data, "train")
        chosen = torch.randint(len(split), (count,))
        place = next(self.model.parameters()).device
        context = split.context(chosen, self.model.context_names)
        return {name: value.to(place) for name, value in context.items()}


def shown_value(value: object) -> str:
    """Return a value of a setting for names: numbers without zeros at the end, those of a list joined.

    Example:
        >>> shown_value(0.50), shown_value([1, 2.5])
        ('0.5', '1_2.5')
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "_".join(map(shown_value, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def torch_device(device: str) -> torch.device:
    """Return a device by its name.

    Where there are several accelerators, processes that torchrun started share them by their local rank.

    Args:
        device: a device as torch names it, such as `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; or `auto` for the
            accelerator if there is one, else the CPU.

    Raises:
        ConfigError: if torch does not know the device, or cannot use it here.
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
        raise ConfigError("device", device, f"there are {count} devices: device={here.type} uses one of them")
    index = int(os.environ.get("LOCAL_RANK", "0")) % count if place.index is None else place.index
    return torch.device(here.type, index)
