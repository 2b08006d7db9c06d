"""What `nelbo explore` does: it opens runs and serves their page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nelbo.errors import ConfigError
from nelbo.explorer.explored import open_explored
from nelbo.explorer.server import Explorer
from nelbo.explorer.serving import address, listening, serve
from nelbo.finished.run import FinishedRun

SAME_IMAGES = ("data", "data_sha256", "split_seed", "train_images", "val_images", "test_images")
"""The entries of the provenance of data that two runs must share, so that a position is the same image of both."""


def explore(
    paths: Sequence[str],
    *,
    split: str,
    images: int,
    port: int,
    idle_seconds: float,
    device: str,
    threads: int,
    batch_size: int,
    setting: Mapping[str, Any],
    moved: Mapping[str, Any],
    allow: Sequence[str],
) -> str:
    """Serve the page of one run or two until it is ended.

    Args:
        paths: the runs' directories or checkpoints.
        split: the images: `test`, `val` or `train`.
        images: the largest number of images whose codes are shown.
        port: the port on 127.0.0.1; 0 for a free one.
        idle_seconds: how long there may be no request; 0 for ever.
        device: as in `nelbo.finished.run.torch_device`.
        threads: CPU threads of torch.
        batch_size: images that are encoded at once.
        setting: what is bound of a model that was trained for many settings.
        moved: new options of the data's source by name, if the data were moved.
        allow: packages of the user's own that models may be made of.

    Returns:
        Why it ended, for people.

    Raises:
        NelboError: if a run, its data or an argument cannot be used.
    """
    torch.set_num_threads(threads)
    runs = [FinishedRun.open(path, allow, moved or None, key="run", setting=setting) for path in paths]
    refuse_other_images(runs)
    place = listening(port)
    try:
        explored = [open_explored(run, split=split, device=device, batch_size=batch_size) for run in runs]
        names = " and ".join(run.scene.name for run in explored)
        explorer = Explorer(explored, images)

        def ready() -> None:
            limit = f", or after {idle_seconds / 60:g} minutes without a request" if idle_seconds else ""
            print(f"{names}: open {address(place)} in a browser; Ctrl-C ends it{limit}", flush=True)

        idle = serve(explorer, place, idle_seconds, ready)
    except KeyboardInterrupt:
        idle = False
    finally:
        place.close()
    return f"ended: no request for {idle_seconds / 60:g} minutes" if idle else "ended"


def refuse_other_images(runs: Sequence[FinishedRun]) -> None:
    """Refuse two runs whose images are not the same.

    Raises:
        ConfigError: if they are not.
    """
    first, *others = runs
    for run in others:
        for key in SAME_IMAGES:
            one, two = first.provenance.get(key), run.provenance.get(key)
            if one != two:
                hint = f"has other images than {first.folder}: {key} is {two} and {one}; explore one run at a time"
                raise ConfigError("run", run.folder, hint, located=True)
