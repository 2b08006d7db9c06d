"""Which results may stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARED = ("data_sha256", "protocol", "test_images")
"""What must be equal; all of it is in `metrics.json` and in the provenance of every checkpoint.

The name of the data is not: what counts is what the images are, not what they are called.
"""


def incomparable(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why results, by name, do not belong in one comparison; empty if they do.

    Args:
        results: what `metrics.json` or a checkpoint's provenance says of each.
    """
    for key in COMPARED:
        values = {name: str(result.get(key, "unknown")) for name, result in results.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name} {results[name].get('data', '')} {value[:12]}" for name, value in values.items())
            return f"results of different {key} are not comparable: {told}"
    return ""
