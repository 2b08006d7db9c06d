"""What a run needs to know of data that are stored as floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nelbo.data.run_data import RunData
from nelbo.data.sets.eight_bits import conversion
from nelbo.errors import ConfigError

HEAD = 1000
"""Number of examples from which it is judged how floats would become pixels."""


def refuse_levels(plain: Mapping[str, Any], data: RunData, likelihood: str) -> None:
    """Refuse a likelihood that needs the number of levels of pixels, where the data are floats and have none.

    Args:
        plain: the resolved config.
        data: set up.
        likelihood: name of the chosen likelihood.

    Raises:
        ConfigError: if the likelihood takes its levels from such data.
    """
    head = plain["model"].get("likelihood") or {}
    if data.extremes is None or "levels" not in head or head["levels"] is not None:
        return
    low, high = data.extremes
    problem = f"needs pixels of 8 bits, and {data.name} holds floats from {low:g} to {high:g}"
    hint = "use likelihood=gaussian or laplace"
    if data.shape is not None and len(data.shape) > 1:
        train = data.splits["train"]
        some = train.__getitems__(torch.arange(min(HEAD, len(train)))).images.numpy().astype(np.float64)
        expression, meaning = conversion(some)
        hint += f", or save {expression.format(x='x')} if they are pixels{meaning}"
    if "bits" in plain.get("data", {}):  # of pictures
        hint = "use likelihood=gaussian or laplace, or data.bits=8, which keeps the upper eight bits"
    raise ConfigError("likelihood", likelihood, f"{problem}; {hint}", located=True)
