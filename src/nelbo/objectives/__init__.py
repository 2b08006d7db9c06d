"""Objectives: functions of a trace and the optimiser step that return the loss to minimise."""

from nelbo.objectives.bounds import CIWAE, IWAE, MIWAE
from nelbo.objectives.covariance import DIP
from nelbo.objectives.discriminator import FactorVAE
from nelbo.objectives.elbo import NegativeELBO, Reconstruction
from nelbo.objectives.free_bits import Capacity, FreeBits
from nelbo.objectives.gradients import PIWAE, STL, DReG
from nelbo.objectives.mmd import WAE, InfoVAE
from nelbo.objectives.objective import Loss, Objective
from nelbo.objectives.semi_supervised import SemiSupervisedELBO
from nelbo.objectives.total_correlation import BetaTC
from nelbo.objectives.vector_quantized import VectorQuantized

__all__ = [
    "CIWAE",
    "DIP",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "STL",
    "WAE",
    "BetaTC",
    "Capacity",
    "DReG",
    "FactorVAE",
    "FreeBits",
    "InfoVAE",
    "Loss",
    "NegativeELBO",
    "Objective",
    "Reconstruction",
    "SemiSupervisedELBO",
    "VectorQuantized",
]
