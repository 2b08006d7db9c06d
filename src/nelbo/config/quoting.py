"""Text as Hydra's grammar takes it on a command line."""

from __future__ import annotations

import re

from nelbo.errors import is_scalar_literal


def quoted(value: str) -> str:
    """A text as Hydra's grammar and OmegaConf take it: as it stands where that reads as text and means nothing else."""
    if re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII) and not is_scalar_literal(value):
        return value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # OmegaConf would interpolate
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)  # at the end they would escape the quote
    return f"'{text}'"
