"""Training steps under autocast to bfloat16: what is rounded, and how far loss and gradient are from float32."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.models import VAE
from nelbo.objectives import Loss
from tests.helpers.factors import (
    CODE_POSTERIORS,
    LIKELIHOODS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    images,
    make_vae,
    refusal,
)

SHAPE = (3, 8, 8)
BATCH = 16
STEPS = 25
NATS = 0.02
"""Largest difference of a term of the loss, in nats per image of 192 pixels."""

GRADIENT, OF_LAPLACE = 0.1, 0.5
"""Largest relative difference of the gradient. That of absolute errors has their signs, which may turn over."""

PARTS = [
    *({"likelihood": name} for name in LIKELIHOODS),
    *({"posterior": name} for name in POSTERIORS if name not in ("diagonal_normal", "deterministic")),
    *({"prior": name} for name in PRIORS if name != "standard_normal"),
    *({"posterior": posterior, "prior": "uniform"} for posterior in CODE_POSTERIORS),
    {"posterior": "categorical", "prior": "categorical"},
    {"posterior": "vector_quantized", "prior": "autoregressive"},
]


def is_general(name: str) -> bool:
    """Return whether an objective other than the ELBO is for models with diagonal normals."""
    return name != "elbo" and refusal("diagonal_normal", "standard_normal", name) is None


IDS = ["-".join(parts.values()) for parts in PARTS]


def autocast(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def made(parts: dict[str, str]) -> tuple[VAE, Tensor]:
    """Return a model in training mode, started on images, with these images; the same each time."""
    torch.manual_seed(0)
    model, x = make_vae("conv", shape=SHAPE, **parts), images(parts.get("likelihood", "gaussian"), BATCH, SHAPE)
    model.initialize(x)
    return model.train(), x


def step(model: VAE, x: Tensor, objective: Any, *, mixed: bool = False) -> tuple[Loss, dict[str, Tensor]]:
    """Return the loss of a training step and the gradient of each parameter."""
    torch.manual_seed(1)
    with autocast(mixed):
        loss = objective(model.trace(x, objective.num_samples), 0)
    loss.total.backward()  # outside of autocast, as Lightning calls it
    gradients = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
    return loss, gradients


def networks(model: VAE) -> list[nn.Module]:
    """Return the parts of a model that may compute in bfloat16."""
    return [model.encoder, model.decoder, *(part for part in (getattr(model.prior, "net", None),) if part is not None)]


def tensors(value: object, path: str = "") -> list[tuple[str, Tensor]]:
    """Return the floating-point tensors of a distribution and of what it is made of, with their names."""
    if isinstance(value, Tensor):
        return [(path, value)] if value.is_floating_point() else []
    if isinstance(value, Distribution):
        return [each for name, part in vars(value).items() for each in tensors(part, f"{path}.{name}")]
    return []


@pytest.mark.parametrize("parts", PARTS, ids=IDS)
def test_only_networks_are_rounded(parts: dict[str, str]) -> None:
    """The step is equal, bit for bit, to one in float32 whose networks alone run under autocast."""
    objective = OBJECTIVES["elbo"]()
    (model, x), (reference, _) = made(parts), made(parts)
    for network in networks(reference):
        inside = network.forward

        def forward(value: Tensor, inside: Any = inside) -> Tensor:
            with autocast():
                return inside(value)

        network.forward = forward  # type: ignore[method-assign]
    expected, expected_gradients = step(reference, x, objective)
    loss, gradients = step(model, x, objective, mixed=True)
    assert torch.equal(loss.total, expected.total) and gradients.keys() == expected_gradients.keys()
    assert all(torch.equal(gradient, expected_gradients[name]) for name, gradient in gradients.items())


@pytest.mark.parametrize("parts", PARTS, ids=IDS)
def test_distributions_and_log_probabilities_are_float32(parts: dict[str, str]) -> None:
    model, x = made(parts)
    with autocast():
        trace = model.trace(x, 2)
        (latent,) = trace.latents
        values = {"log p(x|z)": trace.log_px, "KL": trace.kl, "z": latent.z}
        values |= {"log q(z|x)": latent.log_q, "log p(z)": latent.log_p} if latent.has_density else {}
    values |= dict([*tensors(trace.px, "px"), *tensors(latent.q, "q"), *tensors(latent.p, "p")])
    assert {name for name, value in values.items() if value.dtype != torch.float32} == set()


COMPARED = [*((parts, "elbo") for parts in PARTS), *(({}, name) for name in OBJECTIVES if is_general(name))]


@pytest.mark.parametrize(("parts", "name"), COMPARED, ids=[*IDS, *(name for _, name in COMPARED[len(IDS) :])])
def test_loss_and_gradient_are_close_to_those_of_float32(parts: dict[str, str], name: str) -> None:
    """For a model that has been trained for a while, so that its gradient is small and its errors are not.

    If the parameters of the distributions were rounded too, most gradients would be wrong by 0.2 to 0.4.
    """
    (model, x), objective = made(parts), OBJECTIVES[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        step(model, x, objective)
        optimizer.step()
    model.zero_grad()
    expected, exact = step(copy.deepcopy(model), x, objective)
    loss, gradients = step(model, x, objective, mixed=True)
    differences = {key: abs(float(value) - float(expected.terms[key])) for key, value in loss.terms.items()}
    flat, exact_flat = (torch.cat([part.flatten() for part in each.values()]) for each in (gradients, exact))
    error = (flat - exact_flat).norm() / exact_flat.norm()
    assert max(differences.values()) < NATS
    assert error < (OF_LAPLACE if parts.get("likelihood") == "laplace" else GRADIENT)
