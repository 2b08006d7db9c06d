"""Muon for the weights of layers, with Adam for all other parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam

from nelbo.errors import ConfigError, number

__all__ = ["Muon", "orthogonalized"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x^3 and x^5 in the polynomial of Jordan et al. (2024), which is steep at 0 and near 1 around 1."""

ITERATIONS = 5
VANISHED = 1e-20
"""Largest entry of a momentum below which its update shrinks with it, instead of being scaled up to full size."""

ADAM_RMS = 0.2
"""Root mean square of the entries of an update by Adam, in learning rates (Liu et al. 2025, section 2.2)."""


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices with the singular vectors of the given ones and singular values near 1.

    Five iterations of Newton and Schulz map singular values that are more than a thousandth of the Frobenius norm to
    between 0.4 and 1.3 (Jordan et al. 2024). They are computed on the smaller Gram matrix G = X X^T: each iteration
    multiplies X by a polynomial of G, so the product with X itself is computed once.

    Args:
        matrices: (N, R, C); a matrix whose entries are all below `VANISHED` stays small, and one of zeros stays one.

    Example:
        >>> orthogonalized(torch.tensor([[[3.0, 0.0], [0.0, 2.0]]])).diagonal(dim1=1, dim2=2).round(decimals=1)
        tensor([[1.1000, 0.7000]])
    """
    is_wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if is_wide else matrices.mT
    x = x / x.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(VANISHED)  # squares of other entries may underflow
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(1)
    linear, cubic, quintic = COEFFICIENTS
    gram = x @ x.mT
    product = torch.eye(len(gram[0]), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        factor.diagonal(dim1=-2, dim2=-1).add_(linear)
        product, gram = factor @ product, factor @ gram @ factor
    orthogonal: Tensor = product @ x
    return orthogonal if is_wide else orthogonal.mT


class Muon(Optimizer):
    """Momentum whose update of each layer is orthogonalised (Jordan et al. 2024, "Muon"), and Adam for the rest.

    The update of a weight is the matrix nearest to the momentum among those with orthonormal rows or columns, so that
    all directions of a layer are learned at the same pace. Convolutional filters are taken for matrices of (output
    channels, input channels x height x width), those of transposed convolutions with input and output exchanged. The
    root mean square of an update is that of Adam's, about 0.2 learning rates (Liu et al. 2025, equation 4), so that
    rates for Adam are a starting point.

    Weights of layers are the parameters named `weight` with two dimensions or more; where parameters have no names, all
    with two dimensions or more. Biases, scales, pseudo-inputs and other free parameters have Adam's updates, and so do
    the projections within torch's attention, which have other names.

    torch.optim.Muon accepts matrices only, no filters, and computes in bfloat16, which many processors have no
    instructions for; here, products are in the parameter's own precision, and layers of equal shapes share them.

    Args:
        params: parameters, pairs of names and parameters, or groups of them.
        lr: learning rate, positive.
        momentum: of the gradients of weights, from 0 to below 1; it is Nesterov's.
        betas: decay rates of Adam's two moments.
        eps: added to the root of Adam's second moment.
        adam_lr: learning rate of Adam's updates, in learning rates.

    Raises:
        ConfigError: if an option is outside of its range.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> optimizer = Muon(
        ...     layer.named_parameters(), lr=0.01, momentum=0.95, betas=(0.9, 0.999), eps=1e-8, adam_lr=1.0
        ... )
        >>> layer(torch.ones(3)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        adam_lr: float,
    ) -> None:
        number("momentum", momentum, minimum=0)
        if momentum >= 1:
            raise ConfigError("momentum", momentum, "must be below 1")
        number("adam_lr", adam_lr, minimum=0)
        # `fused` is for torch, which then keeps the count of steps on the device when a state is loaded.
        options = {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps, "adam_lr": adam_lr, "fused": True}
        super().__init__(params, options)
        self._step_supports_amp_scaling = True  # `found_inf` is respected, as in torch's fused optimisers

    def set_names(self, names: Mapping[Tensor, str]) -> None:
        """Give the parameters names, as pairs in `params` would.

        Args:
            names: of the parameters; one that is not among them has an empty name.
        """
        for group in self.param_groups:
            group["param_names"] = [names.get(parameter, "") for parameter in group["params"]]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient.

        Args:
            closure: computes the gradients and returns the loss; None if they are computed already.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            layers: dict[tuple[int, int, torch.dtype], list[Tensor]] = defaultdict(list)
            others = []
            parameters = group["params"]
            names = group.get("param_names", ["weight"] * len(parameters))
            for name, parameter in zip(names, parameters, strict=True):
                if parameter.grad is None:
                    continue
                if is_weight(name, parameter):
                    layers[len(parameter), parameter[0].numel(), parameter.dtype].append(parameter)
                else:
                    others.append(parameter)
            for alike in layers.values():
                self._update_weights(alike, group)
            if others:
                self._update_others(others, group)
        return loss

    def _update_weights(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update the weights of layers of the same size."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        skipped, momentum = getattr(self, "found_inf", None), group["momentum"]
        ahead = []
        for weight in weights:
            buffer, gradient = self.state[weight]["momentum_buffer"], gradient_of(weight)
            if skipped is not None:  # then the gradient may have entries that are not finite
                gradient = torch.where(skipped > 0, buffer, gradient)
            buffer.lerp_(gradient, 1 - momentum)
            ahead.append(gradient.lerp(buffer, momentum).flatten(1))
        updates = orthogonalized(torch.stack(ahead))
        rate = group["lr"] * ADAM_RMS * max(updates.shape[1:]) ** 0.5
        if skipped is not None:
            updates = updates * (1 - skipped)
        for weight, update in zip(weights, updates, strict=True):
            weight.add_(update.view_as(weight), alpha=-rate)

    def _update_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters that are not weights of layers, by Adam."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adam(
            parameters,
            [gradient_of(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"] * group["adam_lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def is_weight(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is the weight of a linear or convolutional layer with several inputs and outputs."""
    is_named = name.rpartition(".")[-1] == "weight"
    return is_named and parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) > 1
