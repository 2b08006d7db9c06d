"""The LightningModule, and what watches it."""

from nelbo.training.module import VAEModule
from nelbo.training.rates import constant, cosine

__all__ = ["VAEModule", "constant", "cosine"]
