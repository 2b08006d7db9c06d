"""The prior over codes that depend on each other."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from nelbo.distributions import temper
from nelbo.errors import ConfigError
from nelbo.priors import Autoregressive
from tests.helpers.factors import SHAPE

N, K = 3, 4


def make(scale: float = 5.0) -> Autoregressive:
    torch.manual_seed(0)
    prior = Autoregressive((N, K), SHAPE, width=8, layers=2, heads=2).eval()
    with torch.no_grad():
        prior.net.project.weight.mul_(scale)  # far from uniform
    return prior


def all_codes() -> Tensor:
    return torch.eye(K)[torch.tensor(list(itertools.product(range(K), repeat=N)))]


def p_of(prior: Autoregressive):  # type: ignore[no-untyped-def]
    return prior(lambda x: pytest.fail("a prior over codes encodes nothing"))


def test_probabilities_sum_to_one_and_are_not_uniform() -> None:
    with torch.no_grad():
        probability = p_of(make()).log_prob(all_codes()).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    assert probability.max() > 3 / K**N


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_come_as_often_as_they_are_probable(temperature: float) -> None:
    count = 20_000
    prior = temper(p_of(make()), temperature)
    torch.manual_seed(1)
    z = prior.sample(torch.Size((count // 2, 2)))
    assert z.shape == (count // 2, 2, N, K)
    codes = all_codes()
    places = (z.flatten(0, 1).argmax(-1) * torch.tensor([K**2, K, 1])).sum(-1)
    share = torch.bincount(places, minlength=len(codes)) / count
    with torch.no_grad():
        probability = prior.log_prob(codes).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    often = probability > 1e-3  # where a count is nearly normal; all others are taken together
    share, probability = (torch.cat([x[often], x[~often].sum().reshape(1)]) for x in (share, probability))
    assert len(share) > 5
    assert ((share - probability).abs() < 4 * (probability * (1 - probability) / count).sqrt()).all()


def test_a_variable_depends_on_those_before_it_only() -> None:
    net, z = make().net, torch.eye(K)[torch.zeros(1, N, dtype=torch.long)]
    with torch.no_grad():
        rows = net(z)
        for n in range(N):
            other = z.clone()
            other[0, n] = torch.eye(K)[2]
            changed = (net(other) != rows).any(-1)[0]
            assert not changed[: n + 1].any() and changed[n + 1 :].all()


def test_training_it_alone_reaches_the_entropy_of_what_it_is_shown() -> None:
    """Two codes of eight, half and half, whose variables are worth nothing alone: log 2 nats."""
    torch.manual_seed(0)
    prior = Autoregressive((N, 2), SHAPE, width=16, layers=1, heads=2)
    shown = torch.eye(2)[torch.tensor([[0, 0, 1], [1, 1, 0]])]
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(150):
        loss = -p_of(prior).log_prob(shown).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(loss.item() - torch.tensor(2.0).log()) < 0.01
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in prior.parameters())


def test_relaxed_codes_and_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="relaxed"):
        p_of(make()).log_prob(torch.full((N, K), 1 / K))
    for options, told in (({"width": 6, "heads": 4}, "heads=4: must divide width=6"), ({"layers": 0}, "layers=0")):
        with pytest.raises(ConfigError, match=told):
            Autoregressive((N, K), SHAPE, **{"width": 8, "layers": 1, "heads": 2, **options})
    with pytest.raises(ConfigError, match="^prior=autoregressive: is over one-hot codes"):
        Autoregressive((3,), SHAPE, width=8, layers=1, heads=2)
