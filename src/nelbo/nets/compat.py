"""The import of zuko, without its changes to torch, and private interfaces of zuko that `nelbo.nets` uses."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, Transform

# Importing zuko disables the validation of arguments for all of torch.distributions, by two attributes of the class
# `Distribution`, one of them private. They are restored so that importing nelbo does not change torch.
_validation = Distribution._validate_args, Distribution.__dict__["arg_constraints"]
import zuko  # noqa: E402

Distribution._validate_args, Distribution.arg_constraints = _validation  # type: ignore[method-assign]

__all__ = ["coupling", "is_coupling", "zuko"]


class _Coupling(zuko.transforms.CouplingTransform):  # type: ignore[misc]
    """zuko's coupling transform, made of the positions of its halves.

    zuko's constructor takes a mask and searches it in every pass, and a GPU has to finish its work for each search.

    Args:
        meta: returns the transform of the changed half, given the other half.
        kept: positions of the half that stays as it is.
        changed: positions of the half that is changed.
    """

    def __init__(self, meta: Any, kept: Tensor, changed: Tensor) -> None:
        Transform.__init__(self)
        self.meta, self.idx_a, self.idx_b = meta, kept, changed


def is_coupling(layer: nn.Module) -> bool:
    """Return whether a layer of zuko is a coupling layer; of a single coordinate it is none, whatever was asked for."""
    return isinstance(layer, zuko.flows.GeneralCouplingTransform)


def coupling(layer: Any, kept: Tensor, changed: Tensor, context: Tensor | None) -> Any:
    """Return what a coupling layer of zuko returns for a context, without a search of its mask.

    Wraps `GeneralCouplingTransform.meta` and the attributes of `CouplingTransform`.

    Args:
        layer: the layer.
        kept: positions where the mask of the layer is true.
        changed: positions where it is false.
        context: (B, K), or None.
    """
    return _Coupling(partial(layer.meta, context), kept, changed)
