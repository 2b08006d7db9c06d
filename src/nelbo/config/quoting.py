"""Quoting of text for Hydra's grammar of command-line overrides."""

from __future__ import annotations

import re

from nelbo.errors import is_scalar_literal


def quoted(value: str) -> str:
    """Return a text such that Hydra's grammar and OmegaConf read it as this text; with quotes only if they are needed.

    Example:
        >>> quoted("outputs/run-1"), quoted("2024"), quoted("a=b")
        ('outputs/run-1', "'2024'", "'a=b'")
    """
    if re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII) and not is_scalar_literal(value):
        return value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # else OmegaConf would interpolate
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)  # backslashes at the end would escape the closing quote
    return f"'{text}'"
