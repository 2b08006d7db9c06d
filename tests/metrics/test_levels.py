"""Metrics and logs of models with several levels of latents."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from nelbo.distributions import FullNormal
from nelbo.finished.run import FinishedRun
from nelbo.metrics import ActiveUnits, KLPerUnit, standard_metrics
from nelbo.running.scores import rows
from nelbo.trace import Latent, Trace
from nelbo.training.callbacks.progress import without_many_levels
from tests.helpers.forks import forked
from tests.helpers.two_levels import MAP, SHAPE, VECTOR, make_two_levels

LEVELS = ("kl_level_1", "kl_level_2")


def traces(sizes: list[int]) -> list[Trace]:
    """Return traces of a model of two levels, of batches of the same 20 images."""
    model, x = make_two_levels(), torch.rand(20, *SHAPE).double()
    with torch.no_grad():
        whole = model.trace(x, 3)
        parts = []
        for index in torch.arange(20).split(sizes):
            torch.manual_seed(0)
            parts.append(model.trace(x[index], 3))
    return [whole, *parts]


def test_kls_of_levels_sum_to_the_kl_and_count_every_example_once() -> None:
    whole, *parts = traces([9, 9, 2])
    metrics = standard_metrics(whole, "test/", dequantized_levels=None)
    for part in parts:
        metrics.update(part)
    values = metrics.compute()
    assert {f"test/{name}" for name in (*LEVELS, "top_level_active_units", "nelbo", "kl")} <= values.keys()
    assert "test/active_units" not in values
    for level, name in enumerate(LEVELS):
        mean = torch.cat([part.latents[level].kl.mean(0) for part in parts]).mean()
        torch.testing.assert_close(values[f"test/{name}"].double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(sum(values[f"test/{name}"] for name in LEVELS), values["test/kl"])


def test_units_of_all_levels_follow_each_other_and_those_of_maps_are_channels() -> None:
    (trace, _) = traces([20])
    metric = KLPerUnit(trace)
    metric.update(trace)
    names = ["level_1_unit_0", "level_1_unit_1", "level_2_unit_0", "level_2_unit_1"]
    assert metric.names() == names and metric.values().shape == (VECTOR + MAP[0],)
    levels = metric.by_level("kl", metric.values())
    assert list(levels) == list(LEVELS)
    top = trace.latents[0]
    joint = Latent(FullNormal(top.q.mean, torch.eye(VECTOR).double().expand(20, -1, -1)), top.p, top.z)
    lower = KLPerUnit(Trace(trace.x, trace.px, (joint, trace.latents[1])))
    lower.update(Trace(trace.x, trace.px, (joint, trace.latents[1])))
    assert lower.names() == names[2:] and list(lower.by_level("kl", lower.values())) == ["kl_level_2"]
    torch.testing.assert_close(lower.values(), levels["kl_level_2"])
    for latent, part in zip(trace.latents, levels.values(), strict=True):
        torch.testing.assert_close(part.sum().double(), latent.kl.mean(), rtol=1e-6, atol=0)
    channels = trace.latents[1].element_kl.sum((-2, -1)).mean(0)
    torch.testing.assert_close(levels["kl_level_2"].double(), channels, rtol=1e-6, atol=0)


def test_active_units_are_those_of_the_top_level() -> None:
    whole, alone = traces([20])
    metric, top = ActiveUnits(whole), ActiveUnits(Trace(alone.x, alone.px, alone.latents[:1]))
    metric.update(whole)
    top.update(Trace(whole.x, whole.px, whole.latents[:1]))
    assert torch.equal(metric.variances(), top.variances()) and len(metric.variances()) == VECTOR


def test_lines_and_tables_show_the_kls_of_a_few_levels_only() -> None:
    few, many = ({f"test/kl_level_{level + 1}": float(level) for level in range(count)} for count in (3, 30))
    names = [name for _, name, _, _ in rows(few)]
    assert names[names.index("KL") + 1 :][:3] == ["KL, level 1 (top)", "KL, level 2", "KL, level 3"]
    assert not [name for _, name, _, _ in rows(many) if "level 2" in name]
    assert without_many_levels({"val/kl": 1.0, **few}) == {"val/kl": 1.0, **few}
    assert without_many_levels({"val/kl": 1.0, **many}) == {"val/kl": 1.0}


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run of a hierarchy with levels of 2, 3 and 4 units, of which the top one has no KL per unit."""
    folder = tmp_path_factory.mktemp("ladder") / "run"
    words = ["model=ladder_vae", "prior=flow", "model.levels=[2,3,4]", "model.width=16", "model.depth=1"]
    words += ["data=digits", "trainer=smoke", "~callbacks.pictures", "~callbacks.strips", "~callbacks.projector"]
    done = forked("train.py", *words, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_of_several_levels_writes_the_kl_of_each(ladder: Path) -> None:
    metrics = json.loads((ladder / "metrics.json").read_text())
    for split in ("val", "test"):
        levels = [metrics[f"{split}/kl_level_{level}"] for level in (1, 2, 3)]
        assert sum(levels) == pytest.approx(metrics[f"{split}/kl"], rel=1e-5)
        assert 0 <= metrics[f"{split}/top_level_active_units"] <= 2
    with (ladder / "kl_per_unit.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    for level, units in ((2, 3), (3, 4)):
        nats = [float(row[f"level_{level}_unit_{unit}"]) for unit in range(units)]
        assert sum(nats) == pytest.approx(metrics[f"val/kl_level_{level}"], rel=1e-4)
    assert len(row) == 1 + 3 + 4
    history = FinishedRun.open(str(ladder)).unit_kl_history
    assert [math.isnan(value) for value in history[1]] == [True] * 2 + [False] * (3 + 4)
    assert history[1][2:] == [float(row[name]) for name in list(row)[1:]]


def test_tensorboard_has_the_kl_of_each_level_in_one_chart(ladder: Path) -> None:
    board = EventAccumulator(str(ladder / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    tags = board.Tags()
    (event,) = board.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[1].chart}
    assert layout.category[1].title.startswith("KL of each level")
    for title, split in (("training", "train"), ("validation", "val")):
        names = [f"{split}/kl_level_{level}" for level in (1, 2, 3)]
        assert charts[title] == names and set(names) <= set(tags["scalars"])
    units = [tag for tag in tags["images"] if "kl_per_unit" in tag]
    assert units == [f"pictures/kl_per_unit_level_{level}" for level in (2, 3)] and not tags["histograms"]
    assert "train/top_level_active_units" in tags["scalars"]
