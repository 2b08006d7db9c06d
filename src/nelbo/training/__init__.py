"""Training of a model with PyTorch Lightning: the module, callbacks, the Trainer and learning-rate schedules."""

from nelbo.training.averaging import EMA
from nelbo.training.module import VAEModule
from nelbo.training.muon import Muon
from nelbo.training.rates import constant, cosine

__all__ = ["EMA", "Muon", "VAEModule", "constant", "cosine"]
