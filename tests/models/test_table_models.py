"""Models of rows with missing entries: masks, exact answers of linear models, and training beside baselines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from nelbo.data.arrays import Arrays
from nelbo.evaluation import NLL, importance
from nelbo.evaluation.imputation import imputation
from nelbo.evaluation.masked import MaskedModel, for_measures
from nelbo.evaluation.measure import NotApplicable, Subject
from nelbo.heads import Columns, DiagonalNormalPosterior
from nelbo.models import VAE, TableInputs
from nelbo.models.context import required_names
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO
from nelbo.priors import StandardNormal
from tests.helpers.tables import (
    best_mixture,
    mixture_log_likelihood,
    nonlinear_table,
    numbers_table,
    read,
    write_table,
)

MIXED: list[dict[str, Any]] = [
    {"kind": "numeric"},
    {"kind": "categorical", "categories": ["a", "b", "c"]},
    {"kind": "count"},
    {"kind": "binary"},
]
NUMBERS: list[dict[str, Any]] = [{"kind": "numeric"}] * 4


def table_model(columns: list[dict[str, Any]], size: int, hidden: list[int], latent_dim: int, mask: bool = True) -> VAE:
    net = partial(MLP, hidden=hidden, activation="GELU")
    return VAE(
        shape=(size,),
        latent_dim=latent_dim,
        encoder=net,
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=net,
        likelihood=partial(Columns, columns=columns, counts="negative_binomial"),
        inputs=partial(TableInputs, columns=columns, mask=mask),
    )


def mixed_rows(count: int) -> tuple[Tensor, Tensor]:
    """Rows of MIXED, (count, 6), and which of their entries were observed."""
    classes = torch.nn.functional.one_hot(torch.randint(3, (count,)), 3)
    x = torch.cat([torch.randn(count, 1), classes, torch.randint(9, (count, 1)), torch.randint(2, (count, 1))], 1)
    return x.float(), (torch.rand(count, 4) < 0.6)[:, [0, 1, 1, 1, 2, 3]]


def test_values_that_were_not_observed_change_nothing() -> None:
    model = table_model(MIXED, 6, [16], 2).eval()
    x, observed = mixed_rows(50)
    model.initialize(torch.where(observed, x, 0), {"observed": observed})
    other = torch.where(observed, x, mixed_rows(50)[0])
    traces = []
    for rows in (x, other):
        torch.manual_seed(0)
        traces.append(model.trace(rows, 3, {"observed": observed}))
    torch.testing.assert_close(traces[0].latents[0].q.mean, traces[1].latents[0].q.mean)
    torch.testing.assert_close(traces[0].log_px, traces[1].log_px)
    assert (model.trace(x, 1).log_px != model.trace(x, 1, {"observed": observed}).log_px).any()


def test_the_encoder_gets_means_in_place_of_missing_values_and_the_mask() -> None:
    x, observed = mixed_rows(5000)
    x[:, 4] = torch.poisson(torch.full((5000,), 50.0))
    stored = torch.where(observed, x, 0)
    inputs = TableInputs((6,), columns=MIXED, mask=True)
    inputs.initialize(stored, {"observed": observed})
    given = inputs(stored, {"observed": observed})
    assert given.shape == (5000, 10) and (given[:, 6:] == observed[:, [0, 1, 4, 5]]).all()
    assert (given[:, :6][~observed] == 0).all()
    for place in (0, 4):
        values = given[observed[:, place], place]
        assert values.mean().abs() < 1e-4 and values.std().item() == pytest.approx(1, abs=1e-3)
    without = TableInputs((6,), columns=MIXED, mask=False)
    assert without.out_shape == (6,) and without(stored, {"observed": observed}).shape == (5000, 6)


def test_the_mask_has_a_default_and_is_not_required() -> None:
    model = table_model(MIXED, 6, [16], 2)
    assert model.context_names == ("observed",) and required_names(model) == ()
    x, observed = mixed_rows(5)
    everything = torch.ones_like(observed)
    q, whole = model.encode(x), model.encode(x, {"observed": everything})
    torch.testing.assert_close(q.mean, whole.mean)
    assert model.generate(7).sample().shape == (7, 6)


def linear_gaussian() -> tuple[VAE, MultivariateNormal]:
    """Factor analysis, and its exact p(x)."""
    model = table_model(NUMBERS, 4, [], 1).eval()
    with torch.no_grad():
        model.likelihood.log_sigma.copy_(torch.tensor([-0.5, 0.1, -1.0, -0.2]))
    affine = model.likelihood.project.layers[0]
    sigma = model.likelihood(torch.zeros(1, 1)).log_scale.exp()
    weight = affine.weight.detach()
    return model, MultivariateNormal(affine.bias.detach(), weight @ weight.T + torch.diag(sigma.detach() ** 2))


def test_likelihood_and_imputation_of_a_linear_model_are_exact() -> None:
    torch.manual_seed(3)
    model, exact = linear_gaussian()
    x, observed = exact.sample((6,)), torch.rand(6, 4) < 0.6
    observed[0], observed[1] = True, False
    stored = torch.where(observed, x, 0)
    estimate = importance(model.given({"observed": observed}), stored, 40_000)
    found = imputation(model, stored, {"observed": observed}, 40_000)
    for row in range(6):
        o, m = observed[row], ~observed[row]
        covariance, loc = exact.covariance_matrix, exact.loc
        expected, density = loc[m], torch.zeros(())
        if o.any():
            inner = covariance[o][:, o]
            expected = loc[m] + covariance[m][:, o] @ torch.linalg.solve(inner, x[row, o] - loc[o])
            density = MultivariateNormal(loc[o], inner).log_prob(x[row, o])
        assert estimate.log_likelihood[row].item() == pytest.approx(density.item(), abs=0.02)
        torch.testing.assert_close(found.mean[row, m], expected, rtol=0, atol=0.04)
    assert (found.effective_samples > 1).all() and (found.effective_samples <= 40_000).all()


def test_draws_of_missing_values_have_their_conditional_distribution() -> None:
    torch.manual_seed(3)
    model, exact = linear_gaussian()
    row = exact.sample().expand(4000, 4)
    observed = torch.tensor([True, True, False, False]).expand(4000, 4)
    drawn = imputation(model, torch.where(observed, row, 0), {"observed": observed}, 300).drawn[:, 2:]
    covariance, loc = exact.covariance_matrix, exact.loc
    gain = covariance[2:, :2] @ torch.linalg.inv(covariance[:2, :2])
    torch.testing.assert_close(drawn.mean(0), loc[2:] + gain @ (row[0, :2] - loc[:2]), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.T.cov(), covariance[2:, 2:] - gain @ covariance[:2, 2:], rtol=0.15, atol=0.05)


@dataclass(frozen=True)
class MaskedSplit:
    """Rows in memory with their masks."""

    rows: Tensor
    observed: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self.rows[positions]

    def context(self, positions: Tensor, names: Any) -> dict[str, Tensor]:
        return {"observed": self.observed[positions]}


def test_measures_give_the_model_the_mask_of_each_batch() -> None:
    model = table_model(MIXED, 6, [16], 2).eval()
    x, observed = mixed_rows(30)
    split: Any = MaskedSplit(torch.where(observed, x, 0), observed)
    subject = Subject("rows", for_measures(model), {"test": split, "train": split}, batch_size=7)
    found = NLL(num_samples=3000, limit=None, log_weights=False)(subject).per_image["nll"]
    expected = -importance(model.given({"observed": observed}), split.rows, 3000).log_likelihood
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=0.1)
    unmasked = -importance(model, split.rows, 3000).log_likelihood
    assert (unmasked - expected).abs().mean() > 0.3


def test_a_measure_that_gives_no_mask_is_refused() -> None:
    model = for_measures(table_model(MIXED, 6, [16], 2).eval())
    assert isinstance(model, MaskedModel)
    with pytest.raises(NotApplicable, match="without their masks"):
        model.infer(mixed_rows(3)[0])
    assert model.generate(5).mean.shape == (5, 6)


def trained(arrays: Arrays, steps: int) -> tuple[VAE, Tensor, Tensor, dict[str, Tensor]]:
    """Return a model that was trained on a table, test rows, their masks, and the training rows with theirs."""
    torch.manual_seed(0)
    model = table_model(arrays.table["columns"], arrays.shape[0], [64, 64], 3)
    examples = arrays.train.__getitems__(torch.arange(len(arrays.train) - arrays.validation))
    x, observed = examples.images, examples.columns["observed"]
    model.initialize(x, {"observed": observed})
    objective = NegativeELBO(beta=1.0, num_samples=1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.randint(len(x), (128,))
        loss = objective(model.trace(x[chosen], 1, {"observed": observed[chosen]}), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    test = arrays.test.__getitems__(torch.arange(len(arrays.test)))
    return model.eval(), test.images, test.columns["observed"], {"x": x, "observed": observed}


@pytest.mark.slow
def test_a_model_beats_independent_columns_and_a_mixture_of_gaussians(tmp_path: Path) -> None:
    full, holes = numbers_table(2400, seed=0, missing=0.2)
    arrays = read(write_table(holes, tmp_path / "table.csv"), test_size=400)
    model, x, observed, training = trained(arrays, 1000)
    nll = -importance(model.given({"observed": observed}), x, 500).log_likelihood.mean().item()
    complete = training["x"][training["observed"].all(1)].numpy()
    mixture = best_mixture(complete, x.numpy(), observed.numpy(), 0)  # chosen on the test rows, in its favour
    of_mixture = -mixture_log_likelihood(mixture, x.numpy(), observed.numpy()).mean()
    alone = Columns((1,), (10,), columns=arrays.table["columns"], counts="poisson")
    alone.initialize(training["x"], {"observed": training["observed"]})
    independent = -alone(torch.zeros(len(x), 1), context={"observed": observed}).log_prob(x).mean().item()
    assert nll < of_mixture - 0.5 and of_mixture < independent
    found = imputation(model, x, {"observed": observed}, 500).mean
    columns = arrays.table["columns"]
    means, deviations = (torch.tensor([column[key] for column in columns]) for key in ("mean", "sd"))
    true = (torch.tensor(full.to_numpy()).float()[arrays.test.indices] - means) / deviations
    error, of_mean = ((guess - true)[~observed].square().mean().sqrt() for guess in (found, torch.zeros(10)))
    assert error < 0.6 * of_mean


def test_samples_of_a_trained_model_have_the_columns_of_its_table(tmp_path: Path) -> None:
    from nelbo.data.sets.table_columns import decode

    full, holes = nonlinear_table(1500, seed=0, missing=0.2)
    arrays = read(write_table(holes, tmp_path / "table.csv"))
    model, *_ = trained(arrays, 600)
    drawn = decode(model.generate(2000).sample(), arrays.table["columns"])
    assert list(drawn) == list(full)
    assert set(drawn["smoker"]) == {"yes", "no"} and set(drawn["region"]) == set(full["region"])
    assert drawn["visits"].dtype == np.int64 and drawn["visits"].min() >= 0
    for name in ("height", "area", "score", "visits"):
        assert drawn[name].mean() == pytest.approx(full[name].mean(), abs=0.15 * full[name].std())
        assert drawn[name].std() == pytest.approx(full[name].std(), rel=0.2)
    smokers = [frame["height"][np.asarray(frame["smoker"]) == "yes"].mean() for frame in (drawn, full)]
    assert smokers[0] == pytest.approx(smokers[1], abs=1.5)
