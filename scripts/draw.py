"""Pictures of a finished run: `python scripts/draw.py samples run=outputs/...`; `--help` says what else there is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nelbo.commands.main import command
from nelbo.errors import USAGE_ERROR, NelboError
from nelbo.finished.arguments import open_data, quote_runs
from nelbo.messages.names import OTHER_OPTIONS
from nelbo.messages.words import usage

KINDS = sorted(file.stem for file in (Path(__file__).parents[1] / "conf" / "picture").glob("*.yaml"))
OTHER_KINDS = OTHER_OPTIONS["picture"]
PICTURES = ("nelbo.pictures.",)
USAGE = f"python scripts/draw.py {'|'.join(KINDS)} run=... [out=FILE]"


@command(config_path="../conf", config_name="draw", trains=False)
def main(config: DictConfig) -> None:
    """Draw what the config says."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    print(draw(HydraConfig.get().runtime.choices["picture"], plain))


def draw(kind: str, plain: Mapping[str, Any]) -> Path:
    """Draw what `plain`, conf/draw.yaml composed, asks for, and say where.

    Raises:
        NelboError: for anything that the user can put right.
    """
    import torch  # seconds to import, and --help needs none of it

    from nelbo.config.build import build, user_prefixes
    from nelbo.errors import ConfigError, integer, path, positive_integer
    from nelbo.finished.run import FinishedRun, torch_device
    from nelbo.numerics.precision import IEEE, float32
    from nelbo.pictures import Images, Picture, Scene
    from nelbo.pictures.files import check, save

    if plain["threads"] is not None:
        torch.set_num_threads(positive_integer("threads", plain["threads"]))
    seed = integer("seed", plain["seed"], minimum=0, maximum=2**32 - 1)
    batch_size = positive_integer("batch_size", plain["batch_size"])
    if not isinstance(plain["run"], str):
        raise ConfigError("run", plain["run"], "must be a run's directory or a checkpoint; pictures are of one run")
    allow = user_prefixes("allow_targets", plain["allow_targets"])
    picture: Picture = build(plain["picture"], "", (*PICTURES, *allow))
    run = FinishedRun.open(plain["run"], allow, plain["data"], key="run")
    out = run.folder / "pictures" / f"{kind}.png" if plain["out"] is None else path("out", plain["out"])
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


def with_kind(words: list[str]) -> list[str]:
    """A command line with the word that names a kind of picture, wherever it stands, as Hydra reads it.

    Raises:
        NelboError: for none, for two, and for another word in its place.
    """
    words = [word.removeprefix("picture=") for word in words]
    kinds = [word for word in words if word in KINDS]
    if len(kinds) == 1:
        return [f"picture={kinds[0]}", *quote_runs(open_data([word for word in words if word not in kinds]))]
    if kinds:
        raise NelboError(f"{' '.join(kinds)}: one kind of picture at a time; usage: {USAGE}")
    if {"--help", "-h"} & set(words):
        return words
    first = next(iter(words), "")
    raise usage("" if "=" in first else first, KINDS, USAGE, {name: others[0] for name, others in OTHER_KINDS.items()})


if __name__ == "__main__":
    try:
        sys.argv[1:] = with_kind(sys.argv[1:])
    except NelboError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    main()
