"""Objectives: a trace and a step to the loss that is minimised."""

from nelbo.objectives.elbo import NegativeELBO, Reconstruction
from nelbo.objectives.objective import Loss, Objective

__all__ = ["Loss", "NegativeELBO", "Objective", "Reconstruction"]
