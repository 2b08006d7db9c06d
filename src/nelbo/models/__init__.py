"""Models: latent variable models, which all other rooms know by the protocol `Model`."""

from nelbo.models.bound import BoundModel
from nelbo.models.conditioning import Conditioning
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.hierarchy import Hierarchy
from nelbo.models.inference import Inference
from nelbo.models.ladder_vae import LadderVAE
from nelbo.models.masked_inputs import MaskedInputs
from nelbo.models.model import Model
from nelbo.models.nesting import Nesting
from nelbo.models.rates import ManyRates
from nelbo.models.semi_supervised import SemiSupervisedVAE
from nelbo.models.settings import Setting, axes_of, settings_of
from nelbo.models.table_inputs import TableInputs
from nelbo.models.top_down_vae import TopDownVAE
from nelbo.models.vae import VAE

__all__ = [
    "NO_CONTEXT",
    "VAE",
    "BoundModel",
    "Conditioning",
    "Context",
    "Hierarchy",
    "Inference",
    "LadderVAE",
    "ManyRates",
    "MaskedInputs",
    "Model",
    "Nesting",
    "SemiSupervisedVAE",
    "Setting",
    "TableInputs",
    "TopDownVAE",
    "axes_of",
    "settings_of",
]
