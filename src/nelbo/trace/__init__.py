"""The result of one pass of a model, with log-probabilities and KLs computed on demand."""

from nelbo.trace.latent import LabelLatent, Latent, element_kl, unit_kl, unit_names
from nelbo.trace.trace import LOG_BETA, TOP_LEVEL, Trace

__all__ = ["LOG_BETA", "TOP_LEVEL", "LabelLatent", "Latent", "Trace", "element_kl", "unit_kl", "unit_names"]
