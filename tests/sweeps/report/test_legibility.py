"""The report is legible for everybody: contrast, sizes, colours, headings, texts in place of pictures, overlaps."""

from __future__ import annotations

import re
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

import nelbo.sweeps.report
from nelbo.sweeps.report.cell_table import Group, read_table
from nelbo.sweeps.report.heatmaps import colour_map, heat_maps, ink_on
from nelbo.sweeps.report.metric_names import ACTIVE_UNITS, KL, NELBO, NLL, RECONSTRUCTION
from nelbo.sweeps.report.page_content import PIXELS_PER_INCH
from nelbo.sweeps.report.scales import PALETTE, WIDEST, scale_of
from nelbo.sweeps.report.write import pictures
from tests.helpers.report_page import GRID, finished_cell, read_page
from tests.helpers.sweep_directories import scores, write_sweep

STYLE = (Path(nelbo.sweeps.report.__file__).parent / "templates" / "style.css").read_text()
SMALLEST = 12.0
"""The least height of text in CSS pixels."""

PAIRS = [
    *(("ink", ground) for ground in ("page", "good", "bad", "odd", "head", "code")),
    *(("muted", ground) for ground in ("page", "head", "code")),
    *(("link", ground) for ground in ("page", "good")),
]


def schemes() -> dict[str, dict[str, str]]:
    """Return the colours of the page by name, for light and dark screens and for paper."""
    blocks = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{([^}]*)\}", STYLE)]
    return dict(zip(("light", "dark", "print"), blocks, strict=True))


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first: Any, second: Any) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_of_the_page_has_the_contrast_of_level_aa(scheme: str) -> None:
    colours = schemes()[scheme]
    assert set(colours) == set(schemes()["light"])
    assert {pair: contrast(*(colours[name] for name in pair)) >= 4.5 for pair in PAIRS} == dict.fromkeys(PAIRS, True)


def test_text_of_the_page_is_large_enough() -> None:
    sizes = [float(size) * (16 if unit == "rem" else 1) for size, unit in re.findall(r"([\d.]+)(rem|px)/1", STYLE)]
    sizes += [float(size) * (16 if unit == "rem" else 1) for size, unit in re.findall(r"size: ([\d.]+)(rem|px)", STYLE)]
    assert len(sizes) > 8 and min(sizes) >= SMALLEST


@pytest.mark.parametrize("metric", [NELBO, KL])
def test_numbers_in_heat_maps_have_the_contrast_of_level_aa(metric: str) -> None:
    colours = [colour_map(metric)(step / 100)[:3] for step in range(101)]
    assert min(contrast(ink_on(*colour), colour) for colour in colours) >= 4.5


def test_metrics_of_which_neither_end_is_better_are_grey(tmp_path: Path) -> None:
    assert {colour_map(metric).name for metric in (KL, RECONSTRUCTION, ACTIVE_UNITS)} == {"greys"}
    assert {colour_map(metric).name for metric in (NELBO, NLL)} == {"viridis"}
    drawn = heat_maps(read_table(write_sweep(tmp_path / "sweep", GRID)))
    captions = {picture.name: picture.caption for picture in drawn}
    assert "Darker is better." in captions["heat_map_nelbo"] and "neither end is better" in captions["heat_map_kl"]


def test_categories_have_colours_for_colour_blind_readers(tmp_path: Path) -> None:
    names = ["sgd", "adam", "muon", "adamw"]
    table = read_table(write_sweep(tmp_path / "sweep", [finished_cell(f"optimizer={name}") for name in names]))
    used = [scale_of(table).colour_of(Group({"optimizer": name}, ())) for name in names]
    assert used == list(PALETTE[:4]) == ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]  # those of docs/images/linear.png
    shades = [luminance(colour) for colour in PALETTE]
    assert all(colour not in map(to_rgb, colormaps["tab10"].colors) for colour in map(to_rgb, PALETTE))  # type: ignore[attr-defined]
    assert len({round(shade, 2) for shade in shades}) == len(PALETTE)  # told apart in grey too


def test_headings_are_nested_and_every_picture_has_a_text_of_its_own(tmp_path: Path) -> None:
    other = scores(3, 400, data="mnist", data_sha256="aaaa")
    several = [*GRID, *(finished_cell("data=mnist", f"model.latent_dim={d}", metrics=other) for d in (2, 4))]
    for name, cells in {"one": GRID, "several": several}.items():
        page = read_page(write_sweep(tmp_path / name, cells, strips=True))
        levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1 and max(levels) == 3
        assert all(after <= before + 1 for before, after in pairwise(levels))
        texts = page.descriptions
        assert len(texts) == page.tags.count("img") and min(map(len, texts)) > 20
    one = read_page(tmp_path / "one").descriptions
    assert len(set(one)) == len(one)
    assert any(text.startswith("Heat map of KL over model.latent_dim and objective.beta: from") for text in one)


def texts_of(figure: Figure) -> list[Text]:
    """Return the visible texts of a drawn figure."""
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]  # type: ignore[attr-defined]


def overlapping(texts: list[Text]) -> list[tuple[str, str]]:
    """Return the pairs of texts of one axis whose boxes overlap."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible() and text.get_text()]
    return [
        (one, other)
        for place, (one, box) in enumerate(boxes)
        for other, second in boxes[place + 1 :]
        if min(box.x1, second.x1) - max(box.x0, second.x0) > 1 and min(box.y1, second.y1) - max(box.y0, second.y0) > 1
    ]


def cell(**values: Any) -> dict[str, Any]:
    """Return a finished cell with values of keys, `__` for a dot."""
    number = sum(map(len, map(str, values.values())))
    return finished_cell(
        *(f"{key.replace('__', '.')}={value}" for key, value in values.items()), metrics=scores(number, 90)
    )


BETAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
SWEEPS = {
    "forty values": [cell(objective__beta=beta / 10) for beta in range(1, 41)],
    "forty values and latents": [
        cell(objective__beta=beta / 10, model__latent_dim=d) for beta in range(1, 41) for d in (2, 4, 8)
    ],
    "forty categories": [cell(data__root=f"/scratch/number/{number}") for number in range(40)],
    "decades": [cell(objective__beta=beta, model__latent_dim=d) for beta in BETAS for d in (2, 8, 32)],
    "decades alone": [cell(objective__beta=beta) for beta in BETAS],
    "long categories": [
        cell(optimizer=f"an_optimizer_of_a_long_name_{n}", model__latent_dim=d) for n, d in product("abcdef", (2, 4))
    ],
    "a search": [
        cell(optimizer__lr=0.0001 * 1.26**k, model__latent_dim=2 + 7 * k % 60, data__batch_size=(64, 128)[k % 2])
        for k in range(20)
    ],
    "three axes": [
        cell(objective__beta=beta, model__latent_dim=d, optimizer=name)
        for beta in (0.5, 1, 2, 4)
        for d in (2, 4)
        for name in ("sgd", "adam", "muon", "adamw")
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_labels_do_not_overlap_and_no_text_is_small(tmp_path: Path, name: str) -> None:
    for picture in pictures(read_table(write_sweep(tmp_path / "sweep", SWEEPS[name]))):
        texts = texts_of(picture.figure)
        assert min(text.get_fontsize() for text in texts) * PIXELS_PER_INCH / 72 >= SMALLEST, picture.name
        assert picture.figure.get_figwidth() <= WIDEST
        assert picture.description and picture.caption
        for axes in picture.figure.axes:
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                inside = [text for text in labels if in_view(axes, text)]
                assert not overlapping(inside), (picture.name, overlapping(inside)[:3])


def in_view(axes: Any, text: Text) -> bool:
    """Return whether a tick label is at a tick within the limits of its axes."""
    x, y = text.get_position()
    (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    return left <= x <= right or bottom <= y <= top


def test_more_than_two_axes_have_a_panel_for_each_and_say_what_is_pooled(tmp_path: Path) -> None:
    table = read_table(write_sweep(tmp_path / "sweep", SWEEPS["three axes"]))
    (effects,) = [picture for picture in heat_maps(table) if picture.name == "main_effects"]
    labels = [axes.get_xlabel() for axes in effects.figure.axes if axes.get_xlabel()]
    assert labels == ["model.latent_dim", "objective.beta", "optimizer"]
    assert "model.latent_dim: Points are means over optimizer and seeds, which are pooled." in effects.caption
    assert "optimizer: Points are means over model.latent_dim and seeds, which are pooled." in effects.caption
    legends = [axes.get_legend().get_title().get_text() for axes in effects.figure.axes if axes.get_legend()]
    assert legends == ["objective.beta", "model.latent_dim", "objective.beta"]
    ticks = [label.get_text() for label in effects.figure.axes[2].get_xticklabels()]
    assert ticks == ["sgd", "adam", "muon", "adamw"]  # as they were typed


def test_averaged_heat_maps_say_over_what(tmp_path: Path) -> None:
    cells = [
        cell(objective__beta=beta, model__latent_dim=d, optimizer__lr=lr / 1000)
        for beta, d, lr in product((1, 2), (2, 4), (1, 2, 3, 4, 5))
    ]
    drawn = heat_maps(read_table(write_sweep(tmp_path / "sweep", cells)))
    (map_of_kl,) = [picture for picture in drawn if picture.name == "heat_map_kl"]
    assert "Mean ± standard deviation over optimizer.lr, which are pooled." in map_of_kl.caption
