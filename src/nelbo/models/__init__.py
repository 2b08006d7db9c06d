"""Models: latent variable models with the methods `trace`, `generate`, `log_joint` and `initialize`."""

from nelbo.models.vae import VAE

__all__ = ["VAE"]
