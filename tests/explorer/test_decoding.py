"""What is decoded at a point is what the model gives there, at every level, class and setting."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.explorer.decoding import Point, decoded
from nelbo.explorer.explored import STEPS, Explored, Place
from nelbo.pictures.levels import decode
from nelbo.views.codes import modes
from tests.helpers.explorers import make_explored

HERE = Place(image=4, setting={})
LAST = STEPS - 1


def codes_seen(explored: Explored, point: Point, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The codes of every level that the decoder is given for a point, (1, *event) each."""
    seen: list[Tensor] = []
    kind = type(explored.model)
    original = kind.decode

    def spy(self: object, *zs: Tensor, **rest: object) -> object:
        seen[:] = zs
        return original(self, *zs, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(kind, "decode", spy)
        decoded(explored, point)
    return seen


@pytest.mark.parametrize("kind", ["plain", "flow", "ladder", "top_down"])
@torch.no_grad()
def test_at_the_code_of_an_image_all_levels_give_its_reconstruction(kind: str) -> None:
    explored = make_explored(kind)
    model, x = explored.model, explored.images[torch.tensor([HERE.image])]
    torch.manual_seed(0)
    levels = len(model.events)
    z, picture = decoded(explored, Point(HERE, level=levels))
    expected = modes(model, x) if kind != "flow" else explored.codes_of(HERE)  # a flow's mode is estimated by samples
    torch.testing.assert_close(z, expected[0][0])
    torch.testing.assert_close(picture, model.decode(*expected).mean[0].clamp(0, 1))


@pytest.mark.parametrize("kind", ["ladder", "top_down"])
@torch.no_grad()
def test_levels_below_follow_as_they_are_asked_to(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explored = make_explored(kind)
    model, own = explored.model, explored.codes_of(HERE)
    for level in range(1, len(model.events)):
        _, at_modes = decoded(explored, Point(HERE, level=level, below="mode"))
        torch.testing.assert_close(at_modes, decode(model, *own[:level])[0].clamp(0, 1))
        kept = codes_seen(explored, Point(HERE, level=level, below="images"), monkeypatch)
        assert all(torch.equal(*pair) for pair in zip(kept, own, strict=True))
        first, again, other = (
            codes_seen(explored, Point(HERE, level=level, below="prior", seed=seed), monkeypatch) for seed in (1, 1, 2)
        )
        assert all(torch.equal(*pair) for pair in zip(first[:level], own[:level], strict=True))
        assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
        assert not any(torch.equal(*pair) for pair in zip(first[level:], other[level:], strict=True))
        cold = codes_seen(explored, Point(HERE, level=level, below="prior", temperature=0), monkeypatch)
        at_mode = codes_seen(explored, Point(HERE, level=level, below="mode"), monkeypatch)
        assert all(torch.equal(*pair) for pair in zip(cold, at_mode, strict=True))


@pytest.mark.parametrize("kind", ["ladder", "top_down"])
@torch.no_grad()
def test_a_unit_below_the_top_is_moved_by_standard_deviations_of_its_prior(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    explored = make_explored(kind)
    x = explored.images[torch.tensor([HERE.image])]
    latents = explored.model.draw(x, explored.model.infer(x), 1, mode=True).latents
    for level in (2, 3):
        z = codes_seen(explored, Point(HERE, level=level, shifts={level: {1: -1.5}}), monkeypatch)[level - 1]
        expected = latents[level - 1].z[0].clone()
        expected[:, 1] -= 1.5 * latents[level - 1].p.scale[0, :, 1]  # type: ignore[attr-defined]
        torch.testing.assert_close(z, expected)
    ignored = codes_seen(explored, Point(HERE, level=1, below="images", shifts={2: {1: 3.0}}), monkeypatch)
    assert torch.equal(ignored[1], explored.codes_of(HERE)[1])


@torch.no_grad()
def test_codes_between_two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    explored = make_explored("ladder")
    first, last = explored.codes_of(HERE), explored.codes_of(replace(HERE, image=9))
    for step, weight in ((0, 0.0), (LAST // 2, 0.5), (LAST, 1.0)):
        zs = codes_seen(explored, Point(HERE, level=3, other=9, step=step), monkeypatch)
        for z, a, b in zip(zs, first, last, strict=True):
            torch.testing.assert_close(z, (1 - weight) * a + weight * b)
    turned = codes_seen(explored, Point(HERE, level=3, other=9, step=LAST // 2, path="spherical"), monkeypatch)
    a, b = first[0][0], last[0][0]
    angle = torch.acos(a @ b / a.norm() / b.norm())
    torch.testing.assert_close(turned[0][0], (angle / 2).sin() * (a + b) / angle.sin())


@torch.no_grad()
def test_origins_of_the_top_level() -> None:
    explored = make_explored()
    (latents,) = explored.model.events[0]
    given = torch.linspace(-1, 1, latents)
    z, picture = decoded(explored, Point(HERE, origin="point", z=given))
    assert torch.equal(z, given)
    torch.testing.assert_close(picture, explored.model.decode(given.unsqueeze(0)).mean[0])
    assert torch.equal(decoded(explored, Point(HERE, origin="median"))[0], torch.zeros(latents))
    samples = [decoded(explored, Point(HERE, origin="prior", seed=seed))[0] for seed in range(200)]
    assert torch.stack(samples).std(0).sub(1).abs().max() < 0.2
    cold = decoded(explored, Point(HERE, origin="prior", seed=3, temperature=0.5))[0]
    torch.testing.assert_close(cold, 0.5 * samples[3])


@torch.no_grad()
def test_a_class_changes_what_is_decoded_and_not_the_code() -> None:
    explored = make_explored("label")
    assert explored.label_count == 3
    own = int(explored.images.labels[HERE.image])
    pictures = {}
    for label in range(explored.label_count):
        z, pictures[label] = decoded(explored, Point(replace(HERE, label=label)))
        assert torch.equal(z, explored.codes_of(HERE)[0][0])
        torch.testing.assert_close(pictures[label], explored.model.at(label=label).decode(z.unsqueeze(0)).mean[0])
    assert torch.equal(decoded(explored, Point(HERE))[1], pictures[own])
    assert not torch.equal(pictures[0], pictures[1])


@torch.no_grad()
def test_settings_of_a_model_that_was_trained_for_many() -> None:
    explored = make_explored("surface")
    assert {name: (values[0], values[-1]) for name, values in explored.axes.items()} == {
        "latent_dim": (1, 4),
        "beta": (pytest.approx(0.05), pytest.approx(10)),
    }
    x = explored.images[torch.tensor([HERE.image])]
    for setting in ({"beta": 0.1, "latent_dim": 2}, {"beta": 5.0, "latent_dim": 4}):
        bound = explored.model.at(**setting)
        z, picture = decoded(explored, Point(replace(HERE, setting=setting)))
        torch.testing.assert_close(z, bound.encode(x).mean[0])
        torch.testing.assert_close(picture, bound.decode(z.unsqueeze(0)).mean[0])


@pytest.mark.parametrize(
    ("kind", "point", "line"),
    [
        ("plain", Point(Place(40, {})), "image=40: the test split has images 0 to 39"),
        ("plain", Point(HERE, level=2), "level=2: the model has levels 1 to 1"),
        ("plain", Point(HERE, origin="point", z=torch.zeros(2)), "z=2: must be 3 numbers"),
        ("ladder", Point(HERE, level=2, shifts={2: {7: 1.0}}), "shifts=7: level 2 has units 0 to 3"),
        ("label", Point(replace(HERE, label=5)), "label=5: must be at most 2"),
        ("surface", Point(replace(HERE, setting={"beta": 100.0})), "beta=100.0: must be from 0.05 to 10"),
        ("surface", Point(replace(HERE, setting={"latent_dim": 9})), "latent_dim=9: must be at most 4"),
    ],
)
def test_points_that_do_not_exist_are_refused_in_one_line(kind: str, point: Point, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        decoded(make_explored(kind), point)
    assert str(refused.value).startswith(line)
