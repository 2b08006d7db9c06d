"""Labels of a model that infers them where they are unknown.

Shapes: S Monte Carlo samples, B batch, K classes, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal, OneHots
from nelbo.distributions.one_hot import one_hot
from nelbo.errors import ConfigError
from nelbo.heads import Posterior
from nelbo.models.conditioning import Conditioning
from nelbo.models.context import Context
from nelbo.numerics.devices import reads_freely

IMPOSSIBLE = -1e4
"""The logit of the classes that a known label is not: their probability is exactly 0, and no difference is NaN."""


def check_label(condition: Conditioning, posterior: Posterior, event: Sequence[int]) -> None:
    """Check that a model is conditioned on one label, and that its z is a vector.

    Args:
        condition: what the model is conditioned on.
        posterior: q(z|x, y).
        event: the event shape of z.

    Raises:
        ConfigError: if it is not.
    """
    if len(condition.classes) != 1 or condition.sizes:
        hint = "must be the name of one column of classes, such as [label]"
        raise ConfigError("names", list(condition.context_names), hint).within("conditioning")
    if len(event) != 1:
        hint = "makes codes of classes; a model that infers a label needs vectors, such as posterior=diagonal_normal"
        raise ConfigError("posterior", type(posterior).__name__, hint)


def label_of(context: Context, name: str, x: Tensor, classes: int | None = None) -> Tensor:
    """Return the label of each example, (B,), int64, -1 where it is unknown.

    Args:
        context: what is known of the examples, each value (B, ...).
        name: the name of the label.
        x: the examples, (B, ...).
        classes: the number of classes, to check labels on the CPU; None to not check them.

    Raises:
        ValueError: if the labels are those of another number of examples, or one is not a class.
    """
    label = context.get(name)
    if label is None:
        return torch.full((x.shape[0],), -1, device=x.device)
    label = label.reshape(-1).long()
    if len(label) not in (1, len(x)):
        raise ValueError(f"{name} has the labels of {len(label)} examples, not of {len(x)}")
    if classes is not None and reads_freely(label.device) and len(label) and label.max() >= classes:
        raise ValueError(f"{name} must be from 0 to {classes - 1}, or -1 if unknown, not {int(label.max())}")
    return label.expand(x.shape[0])


def with_known(logits: Tensor, label: Tensor) -> OneHots:
    """Return q(y|x), batch shape (B,), event shape (1, K): of a classifier, or certain where the label is known.

    Args:
        logits: of the classifier, (B, K).
        label: the classes, (B,), -1 where they are unknown.

    Example:
        >>> with_known(torch.zeros(2, 3), torch.tensor([1, -1])).base_dist.probs.squeeze(-2)
        tensor([[0.0000, 1.0000, 0.0000],
                [0.3333, 0.3333, 0.3333]])
    """
    own = one_hot(label.clamp_min(0), logits.shape[-1], logits)
    known = torch.where(own == 1, 0.0, IMPOSSIBLE).to(logits)
    return OneHots(torch.where((label >= 0).unsqueeze(-1), known, logits).unsqueeze(-2))


def for_classes(context: Context, name: str, classes: int) -> dict[str, Tensor]:
    """Return a context of B examples for every class, (K B, ...) each, with the labels 0, ..., K - 1 in turn.

    Args:
        context: with a label of each example, (B,), which is replaced.
        name: the name of the label.
        classes: K.

    Example:
        >>> for_classes({"label": torch.tensor([5, -1])}, "label", 2)
        {'label': tensor([0, 0, 1, 1])}
    """
    label = context[name]
    every = torch.arange(classes, device=label.device).repeat_interleave(len(label))
    rest = {key: value.repeat(classes, *[1] * (value.ndim - 1)) for key, value in context.items() if key != name}
    return {**rest, name: every}


def kept(code: Tensor, label: Tensor | None) -> Tensor:
    """Return labels, one-hot, with the classes that are known in their place.

    Args:
        code: (..., B, 1, K), or one label, (1, K).
        label: the classes, (B,) or (1,), -1 where they are unknown; None if none is known.

    Example:
        >>> kept(torch.eye(3)[:2].unsqueeze(-2), torch.tensor([2, -1])).squeeze(-2)
        tensor([[0., 0., 1.],
                [0., 1., 0.]])
    """
    if label is None:
        return code
    label = label.reshape(-1).long()
    own = one_hot(label.clamp_min(0), code.shape[-1], code).unsqueeze(-2)
    chosen = torch.where((label >= 0)[:, None, None], own, code)
    return chosen if code.ndim > 2 else chosen[0]


def both(zs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the label and z.

    Raises:
        ValueError: if one of them is missing.
    """
    if len(zs) != 2:
        raise ValueError(f"expected the label and z, got {len(zs)} of the two; see `Model.sample`")
    return zs[0], zs[1]


def reshaped(p: Distribution, batch: Sequence[int]) -> DiagonalNormal:
    """Return a diagonal normal with its batch in another shape of the same size."""
    assert isinstance(p, DiagonalNormal)
    return DiagonalNormal(p.loc.reshape(*batch, -1), p.scale.reshape(*batch, -1))
