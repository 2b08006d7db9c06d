"""The negative ELBO of a model that infers a label, with a term that trains its classifier on known labels.

Shapes: S Monte Carlo samples, B batch. In nats.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nelbo.errors import number
from nelbo.objectives.elbo import NegativeELBO
from nelbo.objectives.objective import Loss
from nelbo.schedules import Schedule
from nelbo.trace import LabelLatent, Trace


class SemiSupervisedELBO(NegativeELBO):
    """The negative ELBO, and -log q(y|x) of the known labels; `objective=semi_supervised`.

    The mean of the negative ELBO, plus classification times the mean over known labels of -log q(y|x): Kingma et al.
    2014, "Semi-supervised learning with deep generative models", eq. 9, divided by the number of examples. Of an
    example with a known label the negative ELBO is a bound on -log p(x, y), in which q(y|x) does not occur; without
    this term known labels would not train the classifier. If no label of a batch is known, the term is 0.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        classification: weight of -log q(y|x), at least 0. Kingma et al. use 0.1.
        num_samples: S, of each class.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "semi_supervised"

    def __init__(self, *, beta: float | Schedule, classification: float, num_samples: int) -> None:
        super().__init__(beta=beta, num_samples=num_samples)
        self.classification = number("classification", classification, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        total, terms = super().forward(trace, step)
        if trace.label is None:
            return Loss(total, terms)
        cross_entropy = mean_over_known(trace.label, trace)
        return Loss(total + self.classification * cross_entropy, {**terms, "classification": cross_entropy.detach()})

    def check(self, trace: Trace) -> None:
        """Check that the model infers a label.

        Raises:
            ConfigError: if it does not, or if q(z|x) has no density.
        """
        super().check(trace)
        if trace.label is None:
            raise self.refuse("is for a model that infers a label; use conditioning=semi_supervised, or objective=elbo")


def mean_over_known(label: LabelLatent, trace: Trace) -> Tensor:
    """Return the mean of -log q(y|x) over the known labels of the batch, in nats; 0 if none is known.

    With several processes it is the mean over the labels of all of them, once their gradients are averaged.
    """
    # The mean over examples that DDP makes of the processes' means is turned into one over known labels.
    share = trace.shares.mean(label.known.to(label.cross_entropy).mean())
    return trace.mean(label.cross_entropy) / torch.where(share > 0, share, 1.0)
