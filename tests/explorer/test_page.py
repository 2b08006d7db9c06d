"""The page of the explorer in headless Chromium: dragged by a mouse, moved by keys, and looked at in two sizes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nelbo.config.build import build
from nelbo.explorer.explored import Explored
from nelbo.models import Model
from tests.helpers.browser import CHROMIUM, Tab, browser
from tests.helpers.command_lines import composed
from tests.helpers.explored_page import LOADED, drag, loaded_bytes, pause
from tests.helpers.explorers import IMAGES, make_explored, served
from tests.helpers.many_settings import shaken
from tests.helpers.scenes import make_scene

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian's package `chromium`)")

SECONDS = 0.1
"""The longest time from a movement of the mouse to the changed picture, the median of a drag."""

MEGABYTES = 5
MOVES, TRIES = 15, 3
"""Movements of a drag, and drags at most: another program may hold the processor for a while."""


PICTURE = "(() => { const c = document.querySelectorAll('[data-part=decoded]')[%d]; "
PICTURE += "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join() })()"

Show = Callable[..., Tab]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def show(tab: Tab) -> Iterator[Show]:
    """Function that opens the page of runs and returns the tab; the page must write no error."""
    with ExitStack() as servers:

        def opened(*runs: Explored, width: int = 1440, dark: bool = False) -> Tab:
            tab.resize(width, 900, dark=dark)
            tab.open(servers.enter_context(served(runs)), LOADED)
            return tab

        tab.errors.clear()
        yield opened
        tab.run("1")
        assert tab.errors == []


def conv_vae() -> Model:
    """Return the model conv_vae for MNIST with random weights."""
    config: Any = composed(["model=conv_vae", "data=mnist"])
    torch.manual_seed(0)
    return shaken(build(OmegaConf.to_container(config.model, resolve=True), "model"), 0.05).eval()


def picture(tab: Tab, run: int = 0) -> str:
    return str(tab.run(PICTURE % run))


def test_a_drag_changes_the_picture_of_conv_vae_at_once_and_the_page_is_small(show: Show) -> None:
    """Each movement of the mouse changes the picture; the page with what it loads, and the decoder, are below 5 MB."""
    model = conv_vae()
    tab = show(Explored(make_scene(model, torch.rand(IMAGES, 1, 28, 28))))  # type: ignore[arg-type]
    tries = []
    for _ in range(TRIES):
        delays = drag(tab, "[data-part=plane]", MOVES)
        assert len(delays) >= MOVES - 2, "a movement may be too small for a pixel to change"
        tries.append(statistics.median(delays))
        if tries[-1] < 1000 * SECONDS:
            break
    assert min(tries) < 1000 * SECONDS, tries
    assert "the point that you moved" in tab.run("document.querySelector('[data-part=decoded-text]').textContent")
    loaded = loaded_bytes(tab)
    decoder = sum(value.numel() * value.element_size() for value in model.decoder.parameters())  # type: ignore[union-attr]
    assert 10_000 < loaded and 10_000 < decoder and loaded + decoder < MEGABYTES * 1_000_000


def test_a_drag_on_the_plane_moves_the_code_by_as_much(show: Show) -> None:
    """With two latents, the sliders show the coordinates of the place where the mouse was released."""
    tab = show(make_explored("two"))
    box = tab.box("[data-part=plane]")
    read = "[0, 1].map(unit => Number(document.getElementById(`unit-0-1-${unit}`).value))"
    places = []
    for share in (0.3, 0.6):
        x, y = box["x"] + share * box["width"], box["y"] + (1 - share) * box["height"]
        tab.mouse("mousePressed", x, y, held=True)
        tab.mouse("mouseReleased", x, y, held=False)
        pause(tab)
        places.append(tab.run(read))
    side = tab.run("runs[0].plane.side")
    low = tab.run("runs[0].plane.low")
    for share, place in zip((0.3, 0.6), places, strict=True):
        assert place == pytest.approx([low[0] + share * side, low[1] + share * side], abs=side / 100)


def test_keys_move_the_point_and_a_unit(show: Show) -> None:
    tab = show(make_explored())
    first = picture(tab)
    tab.run("document.querySelector('[data-part=plane]').focus()")
    for _ in range(3):
        tab.key("ArrowRight")
    pause(tab)
    second = picture(tab)
    tab.run("document.querySelector('.unit input').focus()")
    for _ in range(9):
        tab.key("ArrowRight")
    pause(tab)
    assert len({first, second, picture(tab)}) == 3
    tab.run("document.querySelector('[data-part=to-image]').click()")
    pause(tab)
    assert picture(tab) == first


def test_images_ways_samples_and_the_nearest_image(show: Show) -> None:
    tab = show(make_explored())
    seen = {picture(tab)}
    for act in (
        "shared.choose('image', 7)",
        "document.querySelector('[data-part=to-sample]').click()",
        "document.querySelector('[data-part=to-sample]').click()",
        "document.querySelector('[data-part=to-median]').click()",
        "(() => { const e = document.getElementById('step'); e.value = 60; e.dispatchEvent(new Event('input')) })()",
        "document.querySelectorAll('[data-image]')[5].click()",
    ):
        tab.run(act)
        pause(tab)
        seen.add(picture(tab))
    assert len(seen) == 7
    position = tab.run("document.querySelectorAll('[data-image]')[5].dataset.image")
    assert tab.run("document.getElementById('image').value") == position
    tab.run("document.querySelector('[data-part=nearest]').click()")
    pause(tab)
    assert tab.run("document.getElementById('image').value") == position  # the point is at its code
    text = tab.run("document.querySelector('[data-part=input-text]').textContent")
    assert text.startswith(f"image {position}, label ") and "KL" in text and "nats" in text


def test_levels_classes_and_settings(show: Show) -> None:
    """Each control changes the picture, and the units of the chosen level are shown."""
    change = "(() => {{ const e = document.querySelector('[data-part={}]'); e.value = {!r}; "
    change += "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)) }})()"
    cases: dict[str, list[tuple[str, object]]] = {
        "top_down": [("below", "prior"), ("below", "images"), ("level", 2), ("below", "mode")],
        "label": [("label", 1), ("label", 2)],
        "surface": [("beta", 900), ("latent-dim", 1)],
    }
    for kind, controls in cases.items():
        tab = show(make_explored(kind))
        seen = [picture(tab)]
        for name, value in controls:
            tab.run(change.format(name, value))
            pause(tab)
            seen.append(picture(tab))
            if name != "level":  # with the levels below as in the image it is the same picture
                assert seen[-1] != seen[-2], (kind, name)
        assert tab.run("document.getElementById('status').textContent") == ""
        if kind == "top_down":
            assert tab.run("document.querySelector('.unit label').firstChild.textContent").startswith("channel")
            tab.run("document.querySelector('.unit input').focus()")
            for _ in range(9):
                tab.key("ArrowRight")
            pause(tab)
            assert picture(tab) != seen[-1]
        if kind == "surface":
            assert tab.run("document.querySelectorAll('.unit').length") == 1


def test_one_latent_has_a_slider_and_no_plane_and_vectors_are_charts(tab: Tab) -> None:
    for kind in ("one", "vector"):
        tab.errors.clear()
        with served([make_explored(kind)]) as address:
            tab.open(address, "document.querySelector('[data-part=units-text]').textContent !== ''")
            pause(tab)
            before = picture(tab)
            tab.run("document.querySelector('.unit input').focus()")
            for _ in range(60):
                tab.key("ArrowRight")
            pause(tab)
            assert picture(tab) != before, kind
            assert tab.run("document.querySelector('[data-part=plane]') === null") == (kind == "one")
            assert tab.run("document.getElementById('status').textContent") == "" and tab.errors == []


def test_two_runs_show_the_same_image_and_are_moved_apart(show: Show) -> None:
    tab = show(make_explored("ladder"), make_explored("plain"))
    tab.run("shared.choose('image', 11)")
    pause(tab)
    texts = tab.run("[...document.querySelectorAll('[data-part=input-text]')].map(text => text.textContent)")
    assert len(texts) == 2 and all(text.startswith("image 11,") for text in texts)
    before = [picture(tab, run) for run in (0, 1)]
    tab.run("document.querySelectorAll('.run')[1].querySelector('[data-part=to-sample]').click()")
    pause(tab)
    assert picture(tab, 0) == before[0] and picture(tab, 1) != before[1]


LAYOUT = """(() => {
  const shown = element => element.getClientRects().length > 0;
  const texts = [...document.querySelectorAll('body *')].filter(element => shown(element) &&
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim() !== ''));
  const size = element => parseFloat(getComputedStyle(element).fontSize);
  const small = texts.filter(element => size(element) < 12).map(element => element.outerHTML);
  const parts = [...document.querySelectorAll('h1, h2, h3, p, label, button, figure, legend, output, canvas')]
    .filter(element => shown(element) && element.textContent + element.tagName !== 'P');
  const over = [];
  for (const one of parts) for (const two of parts) {
    if (one === two || one.contains(two) || two.contains(one)) continue;
    const [a, b] = [one.getBoundingClientRect(), two.getBoundingClientRect()];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) over.push(one.outerHTML.slice(0, 90) + ' | ' + two.outerHTML.slice(0, 90));
  }
  return {small, over, wide: document.documentElement.scrollWidth - innerWidth};
})()"""
"""Texts below 12 pixels, elements that overlap, and by how much the page is wider than the window."""


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_text_is_small_and_nothing_overlaps(show: Show, width: int, dark: bool) -> None:
    for kinds in (("top_down", "label"), ("surface",)):
        tab = show(*map(make_explored, kinds), width=width, dark=dark)
        layout = tab.run(LAYOUT)
        assert layout["small"] == [] and layout["over"] == [] and layout["wide"] <= 0


def test_the_page_says_when_the_explorer_has_ended(tab: Tab) -> None:
    with served([make_explored()]) as address:
        tab.resize(1440, 900)
        tab.open(address, LOADED)
    tab.run("document.querySelector('[data-part=to-sample]').click()")
    tab.wait("document.getElementById('status').textContent.startsWith('The explorer has ended')")
