"""Drawing a picture of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nelbo.config.build import build, user_prefixes
from nelbo.errors import ConfigError, integer, path, positive_integer
from nelbo.finished.run import FinishedRun, torch_device
from nelbo.numerics.precision import IEEE, float32
from nelbo.pictures import Images, Picture, Scene
from nelbo.pictures.files import check, save

PICTURES = ("nelbo.pictures.",)
"""The packages whose pictures can be drawn, in addition to those of `allow_targets`."""


def draw(kind: str, plain: Mapping[str, Any]) -> Path:
    """Draw a picture of a run and write it to a file.

    Args:
        kind: the option of the group `picture`, such as `samples`.
        plain: the config composed from conf/draw.yaml, as plain containers.

    Returns:
        The file.

    Raises:
        NelboError: if the config, the run or its data cannot be used.
    """
    if plain["threads"] is not None:
        torch.set_num_threads(positive_integer("threads", plain["threads"]))
    seed = integer("seed", plain["seed"], minimum=0, maximum=2**32 - 1)
    batch_size = positive_integer("batch_size", plain["batch_size"])
    if not isinstance(plain["run"], str):
        raise ConfigError("run", plain["run"], "must be one run's directory or checkpoint, not a list")
    allow = user_prefixes("allow_targets", plain["allow_targets"])
    picture: Picture = build(plain["picture"], "", (*PICTURES, *allow))
    run = FinishedRun.open(plain["run"], allow, plain["data"], key="run", setting=plain["at"])
    if run.given_of_data and not picture.takes_conditions:
        (name, *_) = run.model.context_names
        raise ConfigError(f"at.{name}", None, f"is missing: this picture is of one condition, such as at.{name}=3")
    file = f"{kind}-{run.setting_name}.png" if run.setting else f"{kind}.png"
    out = run.folder / "pictures" / file if plain["out"] is None else path("out", plain["out"])
    check(out, picture)
    device = torch_device(plain["device"])

    def open_images() -> tuple[Images, tuple[str, ...]]:
        subject = run.subject(split=plain["split"], device=plain["device"], seed=seed, batch_size=batch_size)
        return subject.images, tuple(subject.classes)

    name = run.folder.resolve().name
    scene = Scene(name, run.model.to(device), device, plain["split"], open_images, batch_size)
    with torch.no_grad(), float32(IEEE):
        torch.manual_seed(seed)
        save(picture(scene), out)
    return out
