"""Reading the crash bundle of a run that diverged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from nelbo.checkpoints.container import read_plain
from nelbo.errors import CheckpointError
from nelbo.numerics.precision import FLOAT32
from nelbo.training.callbacks.crash import CRASH, FOLDER, FORMATS

MAX_SHARES = 2**31

KINDS: dict[str, type] = {
    "config": dict,
    "epoch": int,
    "step": int,
    "indices": Tensor,
    "random_states": dict,
    "state_dict": dict,
    "provenance": dict,
    "last_bits": dict,
    "failure": dict,
}
"""The keys that a bundle must have, and the types of their values."""


def read_bundle(file: Path) -> dict[str, Any]:
    """Return the content of a bundle: plain containers and tensors.

    Raises:
        CheckpointError: if the file is not a bundle, or is damaged.
    """
    if file.is_dir():
        raise CheckpointError(f"{file}: is a directory; the bundles of a run are {file / FOLDER}/step-*.pt")
    bundle = read_plain(file)
    if not isinstance(bundle, dict) or CRASH not in bundle:
        raise CheckpointError(f"{file}: is not the bundle of a run that diverged; bundles are in its crash/")
    if type(bundle[CRASH]) is not int or bundle[CRASH] not in FORMATS:
        readable = " and ".join(map(str, FORMATS))
        raise CheckpointError(f"{file}: has format {bundle[CRASH]}, this nelbo reads {readable}")
    for key, kind in KINDS.items():
        if not isinstance(bundle.get(key), kind):
            raise CheckpointError(f"{file}: is damaged: it has no {key}")
    float32_setting = bundle["config"].get("float32")
    parts = (bundle["config"].get(part) for part in ("model", "data", "objective"))
    if (
        bundle["epoch"] < 0
        or bundle["step"] < 0
        or not all(isinstance(part, dict) and "_target_" in part for part in parts)
        or not (float32_setting is None or (isinstance(float32_setting, str) and float32_setting in FLOAT32))
    ):
        raise CheckpointError(f"{file}: is damaged: its config, epoch or step is invalid")
    before, shares = bundle.get("before", []), bundle.get("shares", 1)
    if not isinstance(before, list) or not all(isinstance(rows, Tensor) for rows in before):
        raise CheckpointError(f"{file}: is damaged: the earlier batches of its step are invalid")
    if not isinstance(shares, int) or not len(before) < shares <= MAX_SHARES:
        raise CheckpointError(f"{file}: is damaged: its losses are divided by {shares}")
    failed = bundle["failure"]
    terms, gradients = failed.get("terms"), failed.get("gradients")
    if (
        failed.keys() != {"loss", "terms", "gradients"}
        or not isinstance(terms, dict)
        or not all(isinstance(value, float) for value in (failed["loss"], *terms.values()))
        or not (isinstance(gradients, list) and all(isinstance(name, str) for name in gradients))
    ):
        raise CheckpointError(f"{file}: is damaged: its record of the failure is invalid")
    return bundle
