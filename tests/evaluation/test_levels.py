"""Measures of single levels: KLs, bounds of the upper levels, collapse, and names of what the top level alone has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.evaluation import ELBO, FID, UDR, ActiveUnits, Collapse, Information, Levels, Neighbours, Silhouette
from nelbo.evaluation.collapse_by_level import named
from nelbo.evaluation.generated import checked_temperature
from nelbo.evaluation.measure import Findings, NotApplicable, at_top_level
from nelbo.metrics import ActiveUnits as ActiveUnitsMetric
from nelbo.metrics import MutualInformation, standard_metrics
from nelbo.theory.hierarchy import LinearPosterior
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import images, make_vae
from tests.helpers.gaussian_levels import LinearLevels
from tests.helpers.measures import Pixels
from tests.helpers.subjects import make_subject

EVENTS = ((2, 1, 1), (3,), (1, 2, 2))


def linear(count: int = 40) -> tuple[LinearLevels, Tensor]:
    """Return a linear model with three levels, and a sample of its images."""
    model = LinearLevels(EVENTS).widened().eval().requires_grad_(False)
    return model, model.generate(count).sample()


def number(findings: Findings, key: str) -> float:
    value = findings.values[key]
    assert isinstance(value, float)
    return value


def test_the_kl_of_each_level_and_the_bounds_of_the_upper_levels_are_exact() -> None:
    """Below the upper levels q is p(z|above), which does not depend on x."""
    model, x = linear()
    findings = Levels(num_samples=3000, limit=None)(make_subject(model, x))
    assert {key: findings.values[key] for key in ("levels", "units_level_1", "units_level_2", "units_level_3")} == {
        "levels": 3,
        "units_level_1": 2,
        "units_level_2": 3,
        "units_level_3": 1,  # one channel
    }
    p, q = model.exact(), model.exact_posterior().levels
    terms = p.terms(x.flatten(1), model.exact_posterior())
    for level in range(3):
        assert number(findings, f"kl_level_{level + 1}") == pytest.approx(terms.kl[:, level].mean().item(), rel=0.02)
    pixels = x.flatten(1).shape[1]
    from_prior = [replace(one, matrix=torch.cat([torch.zeros(one.size, pixels), one.matrix], 1)) for one in p.levels]
    bounds = []
    for upper in (1, 2, 3):
        elbo = p.terms(x.flatten(1), LinearPosterior((*q[:upper], *from_prior[upper:]))).elbo
        difference = findings.per_image[f"nelbo_upper_{upper}"] + elbo
        assert abs(difference.mean()) < 0.02 * elbo.mean().abs() and difference.std() > 0
        assert (findings.per_image[f"nelbo_upper_{upper}"].mean() > -p.log_prob(x.flatten(1)).mean()).item()
        bounds.append(number(findings, f"nelbo_upper_{upper}"))
    assert bounds[0] > bounds[1] > bounds[2]  # every level is of use
    elbo_of_all = ELBO(num_samples=3000, limit=None)(make_subject(model, x))
    assert bounds[2] == pytest.approx(number(elbo_of_all, "nelbo"), rel=0.01)


def test_models_with_one_level_have_no_measure_of_levels() -> None:
    with pytest.raises(NotApplicable, match="levels: the model has one level"):
        Levels(num_samples=1, limit=None)(make_subject(make_vae(), images()))


def collapsed(levels: dict[int, list[int]]) -> tuple[LinearLevels, Tensor]:
    """Return a linear model whose q is p(z|above) in some units, by level from 0, and images."""
    model, x = linear()
    with torch.no_grad():
        for level, units in levels.items():
            model.q_pixels[level][units] = 0
            model.q_matrix[level][units] = model.p_matrix[level][units]
            model.q_offset[level][units] = model.p_offset[level][units]
            model.q_log_scale[level][units] = model.p_log_scale[level][units]
    return model, x


def test_collapsed_units_and_levels_are_named() -> None:
    """Unit 1 of level 2, which varies with level 1 although it has no information, and all of level 3."""
    model, x = collapsed({1: [1], 2: [0, 1, 2, 3]})
    history = {1: [1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 2: [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]}
    findings = Collapse(limit=None, kl_threshold=0.01)(make_subject(model, x, unit_kl_history=history))
    values = findings.values
    assert values["collapse_inactive"] == "level 2 unit 1 and level 3 unit 0"
    assert (values["collapse_active_units"], values["collapse_units"]) == (4, 6)
    assert values["collapse_dead_levels"] == "3"
    assert values["collapsed_since"] == "epoch 1: level 3 unit 0; epoch 2: level 2 unit 1"
    assert "collapse: level 3 is dead: KL 0.00 nats" in findings.warnings
    assert any(
        "2 of 6 units are inactive (level 2 unit 1 and" in line and "try: " in line for line in findings.warnings
    )
    text = str(values["kl_per_unit"]).split("; ")
    assert [part.partition(":")[0] for part in text] == ["level 1", "level 2", "level 3"] and text[
        2
    ] == "level 3: 0.000"
    assert findings.pictures["collapse"].shape[0] == 3


def test_the_kl_of_each_unit_is_that_of_traces() -> None:
    model, x = linear(600)
    kl = [
        float(value) for value in str(collapse(model, x).values["kl_per_unit"]).replace(";", "").split() if "." in value
    ]
    terms = model.exact().terms(x.flatten(1), model.exact_posterior()).kl.mean(dim=0)
    assert len(kl) == 6
    for level, own in enumerate((kl[:2], kl[2:5], kl[5:])):
        assert sum(own) == pytest.approx(terms[level].item(), rel=0.05)


def collapse(model: Any, x: Tensor, **rest: Any) -> Findings:
    return Collapse(limit=None, kl_threshold=0.01)(make_subject(model, x, **rest))


def test_a_level_whose_units_depend_on_each_other_has_no_kl_per_unit() -> None:
    """A mixture as the prior of the top level has no KL in closed form."""
    findings = collapse(make_hierarchy("ladder", prior="mixture"), images())
    assert any("units of level 1 depend on each other" in line for line in findings.warnings)
    assert str(findings.values["kl_per_unit"]).startswith("level 2: ") and findings.values["collapse_units"] == 6
    assert findings.pictures["collapse"].shape[0] == 3


def test_names_of_units() -> None:
    assert named([0, 2, 3, 4, 9], [1, 4, 5]) == "level 1 unit 0 and level 2 units 1-3 and level 3 unit 4"
    assert named([], [1, 4]) == ""


def test_what_is_of_the_top_level_says_so() -> None:
    model, x = linear(60)
    labels = torch.arange(60) % 2
    subject = make_subject(model, x, labels=labels, data={"data_sha256": "a", "protocol": "raw"})
    findings = [
        ActiveUnits(limit=None)(subject),
        Information(num_samples=1, limit=None, flow_limit=10)(subject),
        Silhouette(limit=None)(subject),
        *UDR(limit=None)([subject, replace(subject, seed=1)]),
    ]
    for one in findings:
        tables: list[dict[str, Any]] = [one.values, one.per_image, one.recipe]
        assert one.values and all(key.startswith("top_level_") for table in tables for key in table)
        assert all(line.startswith("top level: ") for line in one.warnings)
        assert all(math.isfinite(value) for value in one.values.values() if isinstance(value, float))
    assert findings[0].values["top_level_units"] == 2
    one_level = ActiveUnits(limit=None)(make_subject(make_vae(), images()))
    assert set(one_level.values) == {"active_units", "units"}
    assert ELBO(num_samples=1, limit=None)(subject).values.keys() >= {"nelbo", "rate"}


def test_the_information_at_the_top_level_is_that_of_a_model_without_the_levels_below() -> None:
    """The code of the top level has the same q and p there."""
    model, x = linear(60)
    flat = LinearLevels([(2,)])
    with torch.no_grad():
        for mine, theirs in zip(flat.parameters(), LinearLevels([(2,)]).parameters(), strict=True):
            mine.copy_(theirs)
        for name in ("q_pixels", "q_matrix", "q_offset", "q_log_scale"):
            getattr(flat, name)[0].copy_(getattr(model, name)[0])
    measure = Information(num_samples=2, limit=None, flow_limit=10)
    whole, top = (measure(make_subject(each, x)).values for each in (model, flat))
    for key in ("mutual_information", "marginal_kl", "information_rate"):
        assert whole[f"top_level_{key}"] == pytest.approx(top[key], rel=1e-9)


def test_a_view_of_the_top_level_is_made_once() -> None:
    model, x = linear()
    subject = make_subject(model, x)
    view = at_top_level(subject)
    assert len(view.example.latents) == 1 < len(subject.example.latents) and at_top_level(view) is view
    one = make_subject(make_vae(), images())
    assert at_top_level(one) is one


def test_metrics_of_training_count_the_active_units_of_the_top_level() -> None:
    model, x = linear()
    with torch.no_grad():
        trace = model.trace(x)
    metrics = standard_metrics(trace, "val/", dequantized_levels=None)
    assert "val/top_level_active_units" in metrics.keys() and "val/active_units" not in metrics.keys()
    metric = ActiveUnitsMetric(trace)
    metric.update(trace)
    assert int(metric.compute()) == ActiveUnits(limit=None)(make_subject(model, x)).values["top_level_active_units"]
    information = MutualInformation()
    assert MutualInformation.applies(trace)
    information.update(trace)
    assert 0 < information.compute() <= math.log(len(x))


def test_each_level_may_have_its_own_temperature() -> None:
    model, x = linear()
    settings = {"num_generated": 30, "pixels": "mean", "limit": None}
    subject = make_subject(model, x, model.generate(20).sample())

    def ratio(temperature: float | list[float]) -> float:
        findings = Neighbours(temperature=temperature, **settings)(subject)  # type: ignore[arg-type]
        return number(findings, "neighbour_distance_ratio")

    assert ratio([1.0, 1.0, 1.0]) == ratio(1.0) != ratio([1.0, 1.0, 0.1])
    fid = FID(extractor=Pixels(), temperature=[1, 0.5, 0.5], **settings)(subject)  # type: ignore[arg-type]
    assert fid.values["fid_temperature"] == fid.recipe["fid_temperature"] == "1 0.5 0.5"
    with pytest.raises(ConfigError, match=r"temperature=\[1.0, 0.5\]: must be one number, or one for each of 3"):
        ratio([1.0, 0.5])
    for value in ([], 0, [1, -1], "warm", [1, None]):
        with pytest.raises(ConfigError, match="temperature"):
            checked_temperature(value)
