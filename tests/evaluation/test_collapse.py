"""Collapsed units: which ones, the epoch of their collapse, and the prediction of probabilistic PCA."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError
from nelbo.evaluation import Collapse
from nelbo.evaluation.collapse import since
from nelbo.evaluation.collapse_by_level import ranges
from nelbo.evaluation.measure import Findings, NotApplicable
from nelbo.heads.posterior import LOG_SCALE_BOUND
from nelbo.metrics.collapse import collapse_warning, final_beta
from nelbo.models import VAE
from nelbo.schedules import as_schedule
from nelbo.training.callbacks import History
from tests.helpers.factors import PRIORS, SHAPE, images, make_vae
from tests.helpers.forks import Train
from tests.helpers.subjects import make_subject

UNITS = 6
SPECTRUM = torch.tensor([2.0, 0.8, 0.4, 0.05, 0.02], dtype=torch.float64)
SIGMA2 = 0.3**2
"""Variance of gaussian_fixed; three of the eigenvalues are above it."""


def with_spectrum(count: int = 400) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, 6, 5) whose covariance has the eigenvalues SPECTRUM, and its eigenvectors (30, 5)."""
    codes = torch.randn(count, len(SPECTRUM), dtype=torch.float64)
    codes = torch.linalg.qr(codes - codes.mean(dim=0)).Q * math.sqrt(count)
    vectors = torch.linalg.qr(torch.randn(math.prod(SHAPE), len(SPECTRUM), dtype=torch.float64)).Q
    return (0.5 + codes * SPECTRUM.sqrt() @ vectors.T).reshape(count, *SHAPE), vectors


def last(net: nn.Module) -> nn.Linear:
    return next(layer for layer in net.modules() if isinstance(layer, nn.Linear))


def best_linear(vectors: Tensor, units: list[int]) -> VAE:
    """Return probabilistic PCA for a given sigma^2: w^2 = lambda - sigma^2, q(z|x) = N(w t / lambda, sigma^2 / lambda).

    Component i is in unit units[i]; the other units are equal to the prior.
    """
    model = make_vae("linear", likelihood="gaussian_fixed", latent_dim=UNITS).double()
    encoder, decoder = last(model.posterior), last(model.likelihood)
    with torch.no_grad():
        for layer in (encoder, decoder):
            layer.weight.zero_()
            layer.bias.zero_()
        decoder.bias += 0.5
        for component, unit in enumerate(units):
            value, vector = SPECTRUM[component], vectors[:, component]
            w = (value - SIGMA2).sqrt()
            decoder.weight[:, unit] = w * vector
            encoder.weight[unit] = w / value * vector
            encoder.bias[unit] = -0.5 * (w / value * vector).sum()
            log_scale = 0.5 * (SIGMA2 / value).log()
            encoder.bias[UNITS + unit] = LOG_SCALE_BOUND * torch.atanh(log_scale / LOG_SCALE_BOUND)
    return model


def measure(model: VAE, x: Tensor, beta: object = 1.0, **rest: Any) -> Findings:
    subject = make_subject(model, x, config={"objective": {"beta": beta}}, **rest)
    return Collapse(limit=None, kl_threshold=0.01)(subject)


def test_inactive_units_of_probabilistic_pca_are_optimal() -> None:
    x, vectors = with_spectrum()
    findings = measure(best_linear(vectors, [4, 0, 2]), x)
    assert findings.values["collapse_active_units"] == findings.values["collapse_predicted_units"] == 3
    assert findings.values["collapse_units"] == UNITS and findings.values["collapse_inactive"] == "1, 3, 5"
    assert findings.values["collapse_water_level"] == pytest.approx(SIGMA2, rel=1e-6)
    kl = [float(value) for value in str(findings.values["kl_per_unit"]).split()]
    first, second, third = (0.5 * (SPECTRUM[:3] / SIGMA2).log()).tolist()  # KL of each unit, in nats
    assert kl == pytest.approx([second, 0, third, 0, first, 0], abs=6e-4)
    no_history, verdict = findings.warnings
    assert "the run did not record the KL of each unit" in no_history
    assert "(1, 3, 5); the linear theory predicts 3 active units, so the collapse of the others is optimal" in verdict
    assert "model.latent_dim=3 is enough" in verdict and "prior=vamp" not in verdict


@pytest.mark.parametrize("beta", [0.5, {"linear": {"steps": 10, "end": 0.5}}])
def test_fewer_units_than_theory_predicts_are_a_fault(beta: object) -> None:
    """At a lower beta the fourth component is above the water level too, and the model has two of the four."""
    x, vectors = with_spectrum()
    findings = measure(best_linear(vectors, [4, 0]), x, beta)
    assert findings.values["collapse_predicted_units"] == 4
    assert findings.values["collapse_water_level"] == pytest.approx(SIGMA2 / 2, rel=1e-6)
    verdict = findings.warnings[-1]
    assert "predicts 4 active units, 2 more than there are" in verdict
    assert "'objective.beta={linear:{steps:2000,end:0.5}}'" in verdict and "prior=vamp or prior=flow" in verdict
    assert "lower objective.beta than 0.5" in verdict


def test_theory_predicts_no_more_units_than_there_are() -> None:
    x, vectors = with_spectrum()
    findings = measure(best_linear(vectors, [0, 1, 2]), x, beta=1e-6)  # all five components
    assert findings.values["collapse_predicted_units"] == 5
    model = make_vae("linear", likelihood="gaussian_fixed", latent_dim=2).double()
    assert measure(model, x, beta=1e-6).values["collapse_predicted_units"] == 2


def test_units_are_active_above_a_variance_of_one_hundredth() -> None:
    """The means w t / lambda have a variance of w^2 / lambda: 0.0121 and 0.0081."""
    x, vectors = with_spectrum()
    model = best_linear(vectors, [0, 1])
    weight = last(model.posterior).weight
    with torch.no_grad():
        weight[0] = 0.11 * vectors[:, 0] / SPECTRUM[0].sqrt()
        weight[1] = 0.09 * vectors[:, 1] / SPECTRUM[1].sqrt()
    assert measure(model, x).values["collapse_inactive"] == "1-5"


def test_the_epoch_from_which_units_stay_below_the_threshold() -> None:
    history = {
        2: [1.0, 0.001, 0.5, 0.001, 0.0],
        4: [1.0, 0.020, 0.0, 0.001, 0.0],
        6: [1.0, 0.001, 0.0, 0.001, 0.2],
    }
    assert since(history, [1, 2, 3, 4], 0.01) == "epoch 2: 3; epoch 4: 2; epoch 6: 1; 0.01 nats or more at the end: 4"
    assert since({1: [0.0] * 5}, [0, 1, 2, 4], 0.01) == "epoch 1: 0-2, 4"
    x, vectors = with_spectrum()
    histories = {1: [0.1] * UNITS, 2: [0.1, 0, 0.1, 0, 0.1, 0.1], 3: [0.1, 0, 0.1, 0, 0.1, 0]}
    findings = measure(best_linear(vectors, [4, 0, 2]), x, unit_kl_history=histories)
    assert findings.values["collapsed_since"] == "epoch 2: 1, 3; epoch 3: 5"
    assert len(findings.warnings) == 1


def test_ranges() -> None:
    assert ranges([]) == "" and ranges([3]) == "3"
    assert ranges([3, 7, 8, 9, 12, 20, 21]) == "3, 7-9, 12, 20-21"


@pytest.mark.parametrize(
    "beta",
    [4, 0.5, *({kind: {"steps": 10, **end}} for kind in ("linear", "cosine", "cyclical") for end in ({}, {"end": 3}))],
)
def test_the_final_beta_is_where_its_schedule_ends(beta: object) -> None:
    assert final_beta({"objective": {"beta": beta}}) == as_schedule("beta", beta, minimum=0)(math.inf)


def test_after_few_steps_longer_training_is_the_first_remedy() -> None:
    x, vectors = with_spectrum()
    longer = "if they should be active, try: longer training, trainer.max_steps=2000 (the run made 132 steps); a lower"
    assert longer in measure(best_linear(vectors, [4, 0]), x, 0.5, steps=132).warnings[-1]
    for steps in (2000, None):
        assert (
            "if they should be active, try: a lower"
            in measure(best_linear(vectors, [4, 0]), x, 0.5, steps=steps).warnings[-1]
        )


ELBO = "nelbo.objectives.NegativeELBO"


@pytest.mark.parametrize(
    ("steps", "objective", "remedy"),
    [
        (132, {"_target_": ELBO, "beta": 16}, "longer training, trainer.max_steps=2000 (the run made 132 steps)"),
        (2002, {"_target_": ELBO, "beta": 16}, "a smaller weight on the KL than objective.beta=16"),
        (2002, {"_target_": ELBO, "beta": {"linear": {"steps": 9, "end": 8}}}, "on the KL than objective.beta=8"),
        (2002, {"_target_": ELBO, "beta": 1}, "a lower learning rate than optimizer.lr=0.05"),
        (2002, {"_target_": "nelbo.objectives.BetaTC", "beta": 6}, "a lower learning rate than optimizer.lr=0.05"),
    ],
)
def test_the_warning_about_collapse_names_the_first_remedy(steps: int, objective: dict[str, Any], remedy: str) -> None:
    config = {"objective": objective, "optimizer": {"lr": 0.05}, "trainer": {"limit_train_batches": 1.0}}
    collapsed = {"test/kl": 0.012, "test/active_units": 0.0, "steps": steps}
    line = collapse_warning(collapsed, config)
    assert line.startswith("the latents have collapsed (KL 0.012 nats per image, 0 active units); try first: ")
    assert remedy in line
    assert collapse_warning({**collapsed, "test/active_units": 1.0}, config)  # by its KL
    assert collapse_warning({**collapsed, "test/kl": 0.8}, config)  # by its units, as with free bits
    for healthy in ({**collapsed, "test/kl": 0.8, "test/active_units": 1.0}, {"test/active_units": 0.0}):
        assert collapse_warning(healthy, config) == ""
    for share in (5, 1, 0.5):
        assert collapse_warning(collapsed, {**config, "trainer": {"limit_train_batches": share}}) == ""


def test_a_collapsed_run_logs_a_warning(train: Train, tmp_path: Path) -> None:
    done = train("model=conv_vae", "data=digits", "trainer.max_epochs=1", "callbacks=none", "logger=none")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "have collapsed" in line]
    assert "0 active units); try first: longer training, trainer.max_steps=2000 (the run made 11 steps)" in line
    assert line in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("prior", PRIORS)
def test_values_that_a_prior_does_not_have_give_a_warning(prior: str) -> None:
    findings = measure(make_vae(prior=prior), images(count=60))
    factorised = prior in {"standard_normal", "diagonal_normal"}
    for key, reason in (("kl_per_unit", "depend on each other"), ("collapse_predicted_units", "Gaussian prior")):
        assert (key in findings.values) == factorised
        assert factorised != any(reason in warning for warning in findings.warnings)
    picture = findings.pictures["collapse"]
    assert picture.shape[0] == 3 and 0 <= picture.min() < picture.max() <= 1
    assert picture.shape[1] > 600 if factorised else picture.shape[1] < 400  # three panels, or one


def test_models_that_cannot_collapse() -> None:
    with pytest.raises(NotApplicable, match="no log q"):
        measure(make_vae(posterior="deterministic"), images())
    with pytest.raises(ConfigError, match="kl_threshold=0"):
        Collapse(limit=None, kl_threshold=0)


def test_the_history_of_each_unit_has_a_row_per_validation(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(
        is_global_zero=True, sanity_checking=False, current_epoch=0, global_step=5, callback_metrics={}
    )
    names = SimpleNamespace(names=lambda: ["unit_0", "unit_1"])
    module: Any = SimpleNamespace(unit_kl=torch.tensor([1.5, 0.1]), kl_per_unit=names)
    history = History(tmp_path)
    history.on_fit_start(trainer, module)
    history.on_validation_end(trainer, module)
    trainer.current_epoch, module.unit_kl = 2, torch.tensor([0.0, 3e-5])
    history.on_validation_end(trainer, module)
    rows = (tmp_path / "kl_per_unit.csv").read_text().splitlines()
    assert rows == ["epoch,unit_0,unit_1", "1,1.5,0.1", "3,0.0,3e-05"]
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3
    module.unit_kl = None  # units that depend on each other, or codes without a KL
    (tmp_path / "other").mkdir()
    History(tmp_path / "other").on_validation_end(trainer, module)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["history.csv"]


def test_every_run_writes_the_history_of_each_unit(smoke_run: Path) -> None:
    header, row = (smoke_run / "kl_per_unit.csv").read_text().splitlines()
    epoch, *nats = map(float, row.split(","))
    names, values = ((smoke_run / "history.csv").read_text().splitlines()[line].split(",") for line in (0, 1))
    assert header == "epoch,unit_0,unit_1" and epoch == 1
    assert sum(nats) == pytest.approx(float(values[names.index("val/kl")]), rel=1e-4)
