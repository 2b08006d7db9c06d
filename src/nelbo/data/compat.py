"""Private interfaces of other packages that the data sets use."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digits_table() -> NDArray[Any]:
    """Return the digits of scikit-learn, (1797, 65): 64 pixels from 0 to 16, and the class.

    Wraps the file that `sklearn.datasets.load_digits` reads. The import of scikit-learn takes more time than a short
    training, and every cell of a sweep would repeat it. A version that keeps the file elsewhere is imported.
    """
    package = find_spec("sklearn")
    if package is not None and package.origin:
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
