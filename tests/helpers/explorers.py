"""Tiny models that are explored, and a server of their page in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import uvicorn

from nelbo.explorer.explored import Explored
from nelbo.explorer.server import Explorer
from nelbo.explorer.serving import address, listening
from nelbo.models import Conditioning, Model
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import make_vae
from tests.helpers.many_settings import NESTING, RATES, make_many, shaken
from tests.helpers.scenes import make_scene

IMAGES = 40
CLASSES = 3
LABEL = partial(
    Conditioning, names=["label"], kinds={"label": CLASSES}, embedding=None, layers="modulation", prior=False
)


def make_model(kind: str) -> Model:
    """Return a tiny model with random weights: plain, one, two, vector, flow, ladder, top_down, label or surface."""
    torch.manual_seed(0)
    if kind in ("ladder", "top_down"):
        model = make_hierarchy(kind)
    elif kind == "label":
        model = make_many(conditioning=LABEL)
    elif kind == "surface":
        model = make_many(rates=RATES, nesting=NESTING)
    elif kind in ("one", "two"):
        model = make_many(latent_dim=1 if kind == "one" else 2)
    elif kind == "vector":
        model = make_many(shape=(7,))
    else:
        model = make_vae(
            "mlp", "flow_coupling" if kind == "flow" else "diagonal_normal", "standard_normal", "bernoulli"
        )
    return shaken(model).eval()  # type: ignore[arg-type] # of any model


def make_explored(kind: str = "plain") -> Explored:
    """Return a tiny model with random images."""
    torch.manual_seed(1)
    model = make_model(kind)
    return Explored(make_scene(model, torch.rand(IMAGES, *model.shape)))  # type: ignore[arg-type]


@contextmanager
def served(runs: Sequence[Explored], images: int = IMAGES) -> Iterator[str]:
    """Serve the page of models in a thread; give its address."""
    place = listening(0)
    explorer = Explorer(runs, images)
    server = uvicorn.Server(
        uvicorn.Config(explorer.application(), log_level="warning", lifespan="off", ws="none", access_log=False)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([place])), daemon=True)
    thread.start()
    try:
        yield address(place)
    finally:
        server.should_exit = True
        thread.join(30)
        place.close()
        assert not thread.is_alive()
