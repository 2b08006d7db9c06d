"""Comparability of results: whether they may be compared, and whether they may be ranked together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARED = ("data_sha256", "protocol", "test_images", "given")
"""Values that must be equal for a comparison; `metrics.json` and the provenance of every checkpoint have them.

The name of the data set is not one of them: only the images themselves matter. `given` is what a conditional model is
given of each image; log p(x|y) is another quantity than log p(x).
"""

NOTHING = "nothing"
"""The value of `given` of a model of x alone."""

VALIDATED = {"split_seed": "data.seed", "val_images": "data.validation_size"}
"""Values that determine the validation images, and the config keys that set them."""


def incomparable(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why results must not be compared; empty if they may be.

    Args:
        results: by name, the content of `metrics.json` or the provenance of a checkpoint.
    """
    for key in COMPARED:
        absent = NOTHING if key == "given" else "unknown"
        values = {name: str(result.get(key, absent)) for name, result in results.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {results[name].get('data', '')} {value[:12]}" for name, value in values.items())
            return f"results of different {key} are not comparable: {listed}"
    return ""


def validated_on(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return values that identify the validation images of a result; empty if there are none."""
    split = tuple(str(result.get(key, "unknown")) for key in VALIDATED)
    return () if result.get("val_images") == 0 else split


def ranked_apart(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why results must not be ranked together by their validation images; empty if they may be.

    Their results on test images may be compared even so.

    Args:
        results: by name, the content of `metrics.json` or the provenance of a checkpoint.
    """
    if len({validated_on(result) for result in results.values()}) < 2:
        return ""
    for key, config_key in VALIDATED.items():
        values = {name: result.get(key, "unknown") for name, result in results.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in values.items())
            return f"results of different {config_key} are ranked by different validation images: {listed}"
    return ""
