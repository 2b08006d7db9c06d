"""Fetching, data sets, binarisation. The DataModule is in `nelbo.data.module`, so that this stays light."""

from nelbo.data.arrays import Arrays
from nelbo.data.sources import binarized_mnist, digits, mnist

__all__ = ["Arrays", "binarized_mnist", "digits", "mnist"]
