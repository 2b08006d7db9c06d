"""nelbo: an experiment framework for variational autoencoders. The name is the number that it minimises."""

from nelbo.loading import load

__all__ = ["load"]
__version__ = "0.1.0"
