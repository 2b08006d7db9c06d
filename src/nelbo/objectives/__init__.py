"""Objectives: a trace and a step to the loss that is minimised."""

from nelbo.objectives.bounds import CIWAE, IWAE, MIWAE
from nelbo.objectives.elbo import NegativeELBO, Reconstruction
from nelbo.objectives.free_bits import Capacity, FreeBits
from nelbo.objectives.gradients import STL, DReG, PIWAE
from nelbo.objectives.objective import Loss, Objective

__all__ = [
    "CIWAE",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "STL",
    "Capacity",
    "DReG",
    "FreeBits",
    "Loss",
    "NegativeELBO",
    "Objective",
    "Reconstruction",
]
