"""Models: `trace`, `generate`, `log_joint`, `initialize`."""

from nelbo.models.vae import VAE

__all__ = ["VAE"]
