"""Results of measures, as they are stored in evaluation.json."""

from __future__ import annotations

import torch

from nelbo.evaluation.measure import Findings

FACTS = {"data_sha256": "d", "protocol": "raw", "split": "test", "evaluation_seed": 0}


def make_findings(**values: float) -> Findings:
    """Return findings with these values, each also as the value of a single image."""
    return Findings(dict(values), {key: torch.tensor([value]) for key, value in values.items()})
