"""Results of measures as evaluation.json has them."""

from __future__ import annotations

import torch

from nelbo.evaluation.measure import Findings

FACTS = {"data_sha256": "d", "protocol": "raw", "split": "test", "evaluation_seed": 0}


def make_findings(**values: float) -> Findings:
    return Findings(dict(values), {key: torch.tensor([value]) for key, value in values.items()})
