"""Data sets: downloading, reading, splitting, and the protocols that turn stored pixels into model input.

`nelbo.data.module` with the LightningDataModule is not imported here, so that `import nelbo.data` does not import
Lightning.
"""

from nelbo.data.arrays import Arrays, Examples
from nelbo.data.augmentation import Augmentation
from nelbo.data.sets.cifar import cifar10, cifar100
from nelbo.data.sets.digits import digits
from nelbo.data.sets.files import array_file
from nelbo.data.sets.folder import image_folder
from nelbo.data.sets.hub import huggingface
from nelbo.data.sets.mnist import binarized_mnist, fashion_mnist, mnist
from nelbo.data.sets.published import dsprites, omniglot, svhn
from nelbo.data.sets.table import table

__all__ = [
    "Arrays",
    "Augmentation",
    "Examples",
    "array_file",
    "binarized_mnist",
    "cifar10",
    "cifar100",
    "digits",
    "dsprites",
    "fashion_mnist",
    "huggingface",
    "image_folder",
    "mnist",
    "omniglot",
    "svhn",
    "table",
]
