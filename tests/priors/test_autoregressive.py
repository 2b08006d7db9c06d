"""The autoregressive prior over one-hot codes."""

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


def make_prior(scale: float = 5.0) -> Autoregressive:
    torch.manual_seed(0)
    prior = Autoregressive((N, K), SHAPE, width=8, layers=2, heads=2).eval()
    with torch.no_grad():
        prior.net.project.weight.mul_(scale)  # far from uniform
    return prior


def all_codes() -> Tensor:
    return torch.eye(K)[torch.tensor(list(itertools.product(range(K), repeat=N)))]


def p_of(prior: Autoregressive):  # type: ignore[no-untyped-def]
    return prior(lambda x: pytest.fail("this prior must not encode images"))


def test_probabilities_sum_to_one_and_are_not_uniform() -> None:
    with torch.no_grad():
        probability = p_of(make_prior()).log_prob(all_codes()).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    assert probability.max() > 3 / K**N


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_of_samples_are_their_probabilities(temperature: float) -> None:
    count = 20_000
    prior = temper(p_of(make_prior()), temperature)
    torch.manual_seed(1)
    z = prior.sample(torch.Size((count // 2, 2)))
    assert z.shape == (count // 2, 2, N, K)
    codes = all_codes()
    indices = (z.flatten(0, 1).argmax(-1) * torch.tensor([K**2, K, 1])).sum(-1)
    frequency = torch.bincount(indices, minlength=len(codes)) / count
    with torch.no_grad():
        probability = prior.log_prob(codes).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    frequent = probability > 1e-3  # their counts are nearly normal; all other codes are counted together
    frequency, probability = (torch.cat([x[frequent], x[~frequent].sum().reshape(1)]) for x in (frequency, probability))
    assert len(frequency) > 5
    assert ((frequency - probability).abs() < 4 * (probability * (1 - probability) / count).sqrt()).all()


def test_logits_depend_only_on_variables_before_them() -> None:
    net, z = make_prior().net, torch.eye(K)[torch.zeros(1, N, dtype=torch.long)]
    with torch.no_grad():
        logits = net(z)
        for n in range(N):
            other = z.clone()
            other[0, n] = torch.eye(K)[2]
            changed = (net(other) != logits).any(-1)[0]
            assert not changed[: n + 1].any() and changed[n + 1 :].all()


def test_training_reaches_the_entropy_of_the_data() -> None:
    """The data are two codes of equal frequency, which need the dependence of variables: log 2 nats."""
    torch.manual_seed(0)
    prior = Autoregressive((N, 2), SHAPE, width=16, layers=1, heads=2)
    data = torch.eye(2)[torch.tensor([[0, 0, 1], [1, 1, 0]])]
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(150):
        loss = -p_of(prior).log_prob(data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(loss.item() - torch.tensor(2.0).log()) < 0.01
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in prior.parameters())


def test_relaxed_codes_and_invalid_options_raise() -> None:
    with pytest.raises(ValueError, match="relaxed"):
        p_of(make_prior()).log_prob(torch.full((N, K), 1 / K))
    for options, message in (({"width": 6, "heads": 4}, "heads=4: must divide width=6"), ({"layers": 0}, "layers=0")):
        with pytest.raises(ConfigError, match=message):
            Autoregressive((N, K), SHAPE, **{"width": 8, "layers": 1, "heads": 2, **options})
    with pytest.raises(ConfigError, match="^prior=autoregressive: is a prior over one-hot codes"):
        Autoregressive((3,), SHAPE, width=8, layers=1, heads=2)
