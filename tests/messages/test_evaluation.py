"""Invalid command lines of `evaluate`: each gets one line with a hint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

EVALUATE = {
    "outputs/x": "outputs/x: not an override, which is key=value; did you mean run=outputs/x?",
    "run=x metrics=[NLL]": "metrics=[NLL]: there is no such option; did you mean nll? choose from accuracy, ",
    "run=x metrics=mig": "metrics=mig: there is no such option; did you mean disentanglement?",
    "run=x metrics=nll,elbo": "metrics=nll,elbo: several values are a list: 'metrics=[nll,elbo]'",
    "checkpoint=x": "checkpoint=x: there is no such key; did you mean run?",
    "run=x k=5": "k=5: there is no such key; did you mean num_samples?",
    "run=x model=conv_vae": "model=conv_vae: there is no such key; it belongs to training (python train.py)",
    "run=x data=mnist": "data=mnist: there is no such key; it belongs to training (python train.py); "
    "a finished run has its own data; if they were moved: data.KEY=...",
    "run=x +foo=1": "+foo=1: nothing reads this key",
    "run=x ~split": "~split: evaluate needs it",
    "run=x metrics.fid.limit=10": "metrics.fid.limit=10: there is no such key; metrics.fid.limit is a key of "
    "metrics=fid",
    "run=x metrics.ais.limit=10": "metrics.ais.limit=10: there is no such key; metrics.ais.limit is a key of "
    "metrics=ais",
    "run=x data={root:x}": "data={root:x}: its keys are set one by one: data.root=x",
    "run=x data=null": "data=null: is not a group here; its keys are set one by one: data.KEY=...",
    "run=x extractor=classifier,inception": "extractor=classifier,inception: takes one of them",
}


@pytest.mark.parametrize("line", EVALUATE)
def test_an_invalid_command_line_of_evaluation_gets_a_hint(message_for: Callable[..., str], line: str) -> None:
    assert message_for(line, "evaluate").startswith(EVALUATE[line]), message_for(line, "evaluate")
