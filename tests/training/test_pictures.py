"""What callbacks show of models with several levels of latents, and what they show of models with one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from nelbo.data.arrays import Batch
from nelbo.models import Model
from nelbo.training.callbacks.model_table import describe_latents, parts
from nelbo.training.callbacks.pictures import pictures
from nelbo.views.codes import modes
from nelbo.views.grids import grid
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import SHAPE, make_vae

OF_EVERY_MODEL = ["reconstructions", "samples"]
OF_LEVELS = ["reconstructions_by_level", "samples_by_level"]
OF_TWO_LATENTS = ["manifold", "aggregate_posterior"]


@dataclasses.dataclass(frozen=True)
class Data:
    """Held-out examples without files."""

    images: Tensor
    classes: tuple[str, ...] = ()

    def examples(self, count: int) -> Batch:
        x = self.images[:count]
        return Batch(x, torch.arange(len(x)) % 3)


def drawn(model: Model) -> dict[str, Tensor]:
    """Return the pictures of a model by name."""
    data = Data(torch.rand(40, *SHAPE))
    with torch.no_grad():
        shown = {one.name: one.picture for one in pictures(model.eval(), data, torch.device("cpu"))}  # type: ignore[arg-type]
        x = data.images[:8]
        pairs = torch.stack([x, model.decode(*modes(model, x)).mean])
    first = shown[OF_EVERY_MODEL[0]]
    torch.testing.assert_close(first[:, : grid(pairs).shape[1]], grid(pairs), atol=1e-5, rtol=0)
    return shown


def test_pictures_of_a_model_with_one_level() -> None:
    assert list(drawn(make_vae())) == [*OF_EVERY_MODEL, "traversals", "aggregate_posterior"]
    assert list(drawn(make_vae(latent_dim=2))) == [*OF_EVERY_MODEL, "traversals", *OF_TWO_LATENTS]
    assert list(drawn(make_vae(latent_dim=1))) == [*OF_EVERY_MODEL, "traversals"]


@pytest.mark.parametrize("kind", ["ladder", "top_down"])
def test_pictures_of_a_model_with_several_levels(kind: str) -> None:
    shown = drawn(make_hierarchy(kind))
    maps = ["kl_maps"] if kind == "top_down" else []
    assert list(shown) == [*OF_EVERY_MODEL, *OF_LEVELS, *maps, "traversals", "aggregate_posterior"]
    assert all(picture.isfinite().all() and picture.min() >= 0 and picture.max() <= 1 for picture in shown.values())
    if maps:
        rows = grid(torch.zeros(3, 8, 1, *SHAPE[1:])).shape[1]  # images, and two levels of maps
        assert shown["kl_maps"].shape[:2] == (3, rows)


def test_pictures_of_two_latents_at_the_top_of_several_levels() -> None:
    shown = drawn(make_hierarchy(levels=[2, 4]))
    assert list(shown)[-3:] == ["traversals", *OF_TWO_LATENTS]


def test_the_table_of_a_model_lists_its_levels() -> None:
    model = make_hierarchy("top_down", layout=["1x1", "3x3"])
    assert describe_latents(model) == "4 levels of latents: 3, 2x3x3, 2x3x3, 2x3x3"
    assert describe_latents(make_vae()) == "3 latents"
    rows = {name: (kind, shapes, size) for name, kind, shapes, size in parts(model)}
    assert rows["levels 2 to 4"] == ("Level", "2x3x3 each", size(model.levels))
    assert sum(size for _, _, size in rows.values()) == size(model)
    ladder = make_hierarchy()
    rows = {name: (kind, shapes, size) for name, kind, shapes, size in parts(ladder)}
    assert rows["level 2"] == ("Level", "4", size(ladder.levels[0]))
    assert rows["level 3"] == ("Level", "2", size(ladder.levels[1]))


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
