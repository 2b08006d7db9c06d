"""Which results may stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARED = ("data_sha256", "protocol", "test_images")
"""What must be equal; all of it is in `metrics.json` and in the provenance of every checkpoint.

The name of the data is not: what counts is what the images are, not what they are called.
"""

VALIDATED = {"split_seed": "data.seed", "val_images": "data.validation_size"}
"""What decides which images a result was validated on, where it was at all, and the key of the config that says it."""


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


def validated_on(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells the validation images of a result from those of another one; all that have none are alike."""
    split = tuple(str(result.get(key, "unknown")) for key in VALIDATED)
    return () if result.get("val_images") == 0 else split


def ranked_apart(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why results, by name, have no common ranking by their validation images; empty if they have.

    Those on the test images may stand in one table all the same.
    """
    if len({validated_on(result) for result in results.values()}) < 2:
        return ""
    for key, typed in VALIDATED.items():
        values = {name: result.get(key, "unknown") for name, result in results.items()}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{name} {value}" for name, value in values.items())
            return f"results of different {typed} are ranked by different validation images: {said}"
    return ""
