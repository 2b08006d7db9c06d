"""The likelihood of rows of a table: each kind of column against torch and scipy, masks, starting values, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal, Poisson

from nelbo.distributions import ColumnLayout, TableRows
from nelbo.errors import ConfigError
from nelbo.heads import Columns
from nelbo.heads.columns import SIGMA_FLOOR

MIXED: list[dict[str, Any]] = [
    {"kind": "categorical", "categories": ["a", "b", "c"]},
    {"kind": "numeric"},
    {"kind": "count"},
    {"kind": "constant"},
    {"kind": "binary"},
    {"kind": "categorical", "categories": [1, 2]},
    {"kind": "numeric"},
]
SIZE = 9


def rows(count: int) -> Tensor:
    """Random encoded rows of the columns MIXED, (count, 9)."""
    one_hot = torch.nn.functional.one_hot
    return torch.cat(
        [
            one_hot(torch.randint(3, (count,)), 3),
            torch.randn(count, 1),
            torch.randint(20, (count, 1)),
            torch.randint(2, (count, 1)),
            one_hot(torch.randint(2, (count,)), 2),
            torch.randn(count, 1),
        ],
        dim=1,
    )


def head(counts: str = "negative_binomial") -> Columns:
    torch.manual_seed(0)
    return Columns((4,), (SIZE,), columns=MIXED, counts=counts)


def distribution(counts: str = "negative_binomial", **context: Tensor) -> TableRows:
    px = head(counts)(torch.randn(3, 5, 4), context=context)
    assert isinstance(px, TableRows)
    return px


def test_the_log_probability_is_the_sum_of_those_of_torch_and_scipy() -> None:
    px, x = distribution(), rows(5)
    p = px.parameters.detach()
    sigma, total = px.log_scale.detach().exp(), px.log_total.detach().exp()
    expected = Categorical(logits=p[..., :3]).log_prob(x[:, :3].argmax(1))
    expected += Categorical(logits=p[..., 6:8]).log_prob(x[:, 6:8].argmax(1))
    expected += Normal(p[..., [3, 8]], sigma).log_prob(x[:, [3, 8]]).sum(-1)
    expected += Bernoulli(logits=p[..., 5]).log_prob(x[:, 5])
    mean = p[..., 4].exp()
    counts = stats.nbinom.logpmf(x[:, 4].numpy(), total.numpy(), (total / (total + mean)).numpy())
    torch.testing.assert_close(px.log_prob(x), expected + torch.from_numpy(counts).float(), rtol=1e-5, atol=1e-5)


def test_counts_may_be_poisson() -> None:
    px, x = distribution("poisson"), rows(5)
    expected = Poisson(px.parameters[..., 4].exp()).log_prob(x[:, 4])
    torch.testing.assert_close(px.entry_log_probs(x)[..., 4], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", ["negative_binomial", "poisson"])
def test_probabilities_of_counts_sum_to_one(counts: str) -> None:
    layout = ColumnLayout([{"kind": "count"}])
    total = torch.tensor([0.5]) if counts == "negative_binomial" else None
    for log_mean in (-3.0, 0.3, 2.5):
        px = TableRows(layout, torch.tensor([log_mean]), torch.zeros(0), total)
        values = torch.arange(2000.0).unsqueeze(1)
        probabilities = px.log_prob(values).exp()
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert (probabilities * values[:, 0]).sum() == pytest.approx(np.exp(log_mean), rel=1e-3)
        assert px.mode.item() == probabilities.argmax().item()


def test_probabilities_of_categories_and_bits_sum_to_one_and_a_density_integrates_to_one() -> None:
    layout = ColumnLayout([{"kind": "binary"}, {"kind": "categorical", "categories": [1, 2, 3]}, {"kind": "numeric"}])
    px = TableRows(layout, torch.randn(5), torch.tensor([-0.3]))
    grid = torch.linspace(-12, 12, 4001)
    bits = torch.tensor([[float(bit), *row] for bit in (0, 1) for row in torch.eye(3).tolist()])
    points = torch.cat([bits.repeat_interleave(len(grid), 0), grid.repeat(len(bits)).unsqueeze(1)], dim=1)
    density = px.log_prob(points).exp().reshape(len(bits), -1)
    assert torch.trapezoid(density, grid).sum() == pytest.approx(1, abs=1e-4)


def test_large_counts_are_exact() -> None:
    layout = ColumnLayout([{"kind": "count"}])
    px = TableRows(layout, torch.tensor([14.0]), torch.zeros(0), torch.tensor([3.0]))
    total, mean = np.exp(3.0), np.exp(14.0)
    expected = stats.nbinom.logpmf(1_234_567, total, total / (total + mean))
    assert px.log_prob(torch.tensor([1_234_567.0])).item() == pytest.approx(expected, abs=1e-2)


def test_unobserved_entries_count_for_nothing_and_have_no_gradient() -> None:
    x, observed = rows(5), torch.rand(5, SIZE) < 0.5
    observed[:, 1:3], observed[:, 7] = observed[:, :1], observed[:, 6]
    px = distribution(observed=observed)
    px.parameters.retain_grad()
    entries = px.entry_log_probs(x)
    torch.testing.assert_close(px.log_prob(x), (entries * observed).sum(-1))
    px.log_prob(torch.where(observed, x, 0)).sum().backward()
    assert px.parameters.grad is not None
    assert (px.parameters.grad[:, ~observed] == 0).all() and (px.parameters.grad[:, observed] != 0).any()


def test_a_row_without_an_observed_entry_has_the_probability_one() -> None:
    px = distribution(observed=torch.zeros(5, SIZE, dtype=torch.bool))
    assert (px.log_prob(torch.zeros(5, SIZE)) == 0).all()


def test_mean_and_samples_agree_and_samples_are_in_the_support() -> None:
    for counts in ("negative_binomial", "poisson"):
        px = head(counts)(torch.randn(2, 4))
        drawn = px.sample((40_000,))
        assert drawn.shape == (40_000, 2, SIZE) and px.support.check(drawn).all()
        torch.testing.assert_close(drawn.mean(0), px.mean.detach(), rtol=0.05, atol=0.05)


def test_the_mode_is_the_most_probable_of_many_samples() -> None:
    px = head()(torch.randn(1, 4))
    mode = px.mode
    assert px.support.check(mode).all()
    assert (px.log_prob(mode) >= px.log_prob(px.sample((2000,))) - 1e-5).all()


def test_the_support_refuses_what_is_no_row() -> None:
    px, x = distribution(), rows(4)
    assert px.support.check(x).all() and px.support.check(torch.zeros(1, SIZE)).all()
    for place, wrong in ((3, float("nan")), (4, 1.5), (4, -1.0), (5, 0.3), (0, 2.0)):
        row = x[:1].clone()
        row[0, place] = wrong
        assert not px.support.check(row).any()
    both = x[:1].clone()
    both[0, 6:8] = 1
    assert not px.support.check(both).any()


def test_starting_values_are_the_statistics_of_the_observed_rows() -> None:
    torch.manual_seed(1)
    x, likelihood = rows(4000), head()
    observed = torch.rand(4000, SIZE) < 0.7
    observed[:, 1:3], observed[:, 7] = observed[:, :1], observed[:, 6]
    wrong = torch.where(observed, x, torch.zeros(()))
    likelihood.initialize(wrong, {"observed": observed})
    px = likelihood(torch.zeros(1, 4))
    known = (x * observed).sum(0) / observed.sum(0)
    torch.testing.assert_close(px.mean[0].detach(), known, rtol=0.02, atol=0.01)
    sigma = torch.stack([x[observed[:, place], place].std() for place in (3, 8)])
    torch.testing.assert_close(px.log_scale.detach().exp(), sigma, rtol=0.01, atol=0)
    counts = x[observed[:, 4], 4]
    drawn = px.sample((20_000,))[:, 0, 4]
    assert drawn.var().item() == pytest.approx(counts.var().item(), rel=0.1)


def test_a_constant_number_has_the_least_sigma() -> None:
    likelihood = Columns((4,), (1,), columns=[{"kind": "numeric"}], counts="poisson")
    likelihood.initialize(torch.ones(50, 1))
    assert likelihood(torch.zeros(1, 4)).log_scale.exp().item() == pytest.approx(SIGMA_FLOOR * 2**0.5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "columns=null: needs a description of each column"),
        ([{"kind": "numeric"}], "the columns have 1 entries"),
        ([{"kind": "number"}], r"columns\[0\].kind=number"),
        ([{"kind": "categorical"}], r"columns\[0\].categories=null"),
        ([{"kind": "categorical", "categories": ["a"]}], r"columns\[0\].categories"),
    ],
)
def test_other_descriptions_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Columns((4,), (2,), columns=columns, counts="poisson")
