"""Pictures of a finished run: `python scripts/draw.py samples run=outputs/...`; `--help` says what else there is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nelbo.cli import USAGE_ERROR, command
from nelbo.runs.arguments import open_data, quote_runs

KINDS = sorted(file.stem for file in (Path(__file__).parents[1] / "conf" / "picture").glob("*.yaml"))
PICTURES = ("nelbo.pictures.",)


@command(config_path="../conf", config_name="draw", trains=False)
def main(config: DictConfig) -> None:
    """Draw what the config says."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    print(draw(HydraConfig.get().runtime.choices["picture"], plain))


def draw(kind: str, plain: Mapping[str, Any]) -> Path:
    """Draw what `plain`, conf/draw.yaml composed, asks for, and say where.

    Raises:
        NelboError: for anything that the user can mend.
    """
    import torch  # seconds to import, and --help needs none of it

    from nelbo.build import build, user_prefixes
    from nelbo.distributions.precision import IEEE, float32
    from nelbo.errors import ConfigError, integer, path, positive_integer
    from nelbo.pictures import Images, Picture, Scene
    from nelbo.pictures.files import check, save
    from nelbo.runs.finished import FinishedRun, torch_device

    if plain["threads"] is not None:
        torch.set_num_threads(positive_integer("threads", plain["threads"]))
    seed = integer("seed", plain["seed"], minimum=0, maximum=2**32 - 1)
    batch_size = positive_integer("batch_size", plain["batch_size"])
    if not isinstance(plain["run"], str):
        raise ConfigError("run", plain["run"], "must be a run's directory or a checkpoint; pictures are of one run")
    allow = user_prefixes("allow_targets", plain["allow_targets"])
    picture: Picture = build(plain["picture"], "", (*PICTURES, *allow))
    run = FinishedRun.open(plain["run"], allow, plain["data"])
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


if __name__ == "__main__":
    word = next(iter(sys.argv[1:]), "")
    if word in KINDS:
        sys.argv[1:] = [f"picture={word}", *quote_runs(open_data(sys.argv[2:]))]
    elif word not in ("--help", "-h"):
        told = f"{word}: is no kind of picture; " if word and "=" not in word else ""
        print(f"error: {told}usage: python scripts/draw.py {'|'.join(KINDS)} run=... [out=FILE]", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    main()
