"""Models: latent variable models, which all other rooms know by the protocol `Model`."""

from nelbo.models.bound import BoundModel
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.inference import Inference
from nelbo.models.model import Model
from nelbo.models.vae import VAE

__all__ = ["NO_CONTEXT", "VAE", "BoundModel", "Context", "Inference", "Model"]
