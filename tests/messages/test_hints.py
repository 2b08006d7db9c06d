"""Hints that are followed as they stand give valid command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("optimizer.amsgrad=true", "sets it: "),
        ("data.root=Fotosä data=image_folder", "one text: "),
        ("'data.root=it'\"'\"'s [v1]' data=image_folder", "one text: "),
        ("objective.beta={linear:{steps:9}", "did you mean "),
        ("model.encoder.hidden=(9,9) model=mlp_vae", "did you mean "),
        ("'objective.beta={cosine:{steps:9}}' experiment=warm_up", "replace it: "),
        ("'logger={_target_:pytorch_lightning.loggers.CSVLogger,flush_logs_every_n_steps:9}'", "have names: "),
        ("seed=1,threads=2", "separated by spaces: "),
        ("mnist", "did you mean "),
        ("data = mnist", "around the sign: "),
        ("--epochs 5", "as key=value: "),
        ("optimizer.wd=0.1", "did you mean "),
        ("trainer.max_time.hours=2", "may be a mapping: "),
        ("objective.beta.linear.steps=5", "may be a mapping: "),
        ("logger=csv,tensorboard", "a list is "),
        ("trainer=[smoke,cpu]", "not a list: "),
        ("+data=digits", "without the plus: "),
        ("data=/home/me/photos", "did you mean "),
        ("data=huggingface", "type "),
    ],
)
def test_a_hint_that_is_followed_as_it_stands_works(message_for: Callable[..., str], line: str, separator: str) -> None:
    message = message_for(line)
    assert separator in message
    hint = message.rpartition(separator)[2]
    arguments = shlex.split(line)[1:]
    others = [argument for argument in arguments if argument.startswith(("data=image", "model=", "experiment="))]
    hint = re.split(r"\? |; -m ", hint)[0].rstrip("?")  # without the list of options, or an alternative
    assert message_for([*others, *shlex.split(hint)]) == ""
