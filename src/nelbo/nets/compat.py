"""The import of zuko, without its changes to torch."""

from __future__ import annotations

from torch.distributions import Distribution

# Importing zuko disables the validation of arguments for all of torch.distributions, by two attributes of the class
# `Distribution`, one of them private. They are restored so that importing nelbo does not change torch.
_validation = Distribution._validate_args, Distribution.__dict__["arg_constraints"]
import zuko  # noqa: E402

Distribution._validate_args, Distribution.arg_constraints = _validation  # type: ignore[method-assign]

__all__ = ["zuko"]
