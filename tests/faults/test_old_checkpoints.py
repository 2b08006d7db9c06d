"""Checkpoints of every earlier format load and give the values that they gave when they were written.

`tests/checkpoints/format-N` contains checkpoints of small models and, in `expected.json`, the `scores` of each in the
version that wrote them. To add the current format before it changes again, train the models of format-1 with

    python train.py data=digits trainer=smoke trainer.max_epochs=2 callbacks=none logger=none model.latent_dim=3 ...

and `model=linear_vae`, `model=autoencoder`, `model=conv_vae likelihood=discretized_logistic`, or
`model=mlp_vae model.encoder.hidden=[8] model.decoder.hidden=[8]` with a scheduled beta, a scheduled sigma,
`posterior=flow prior=mixture` or `prior=vamp`. Copy each best.ckpt to format-N/NAME.ckpt, and write
`{NAME: scores(file)}` for all of them as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.checkpoints.record import FORMAT, FORMATS, provenance, read_checkpoint
from nelbo.data import digits
from nelbo.errors import CheckpointError
from nelbo.running.resume import newest
from tests.helpers.forks import ROOT

HOME = ROOT / "tests" / "checkpoints"
FILES = sorted(HOME.glob("format-*/*.ckpt"))


def scores(file: Path) -> dict[str, float]:
    """Return values in nats that depend on every component of the model, for two samples of each of 16 images."""
    vae = nelbo.load(file)
    x = digits().test.images[:16].float() / 255
    torch.manual_seed(0)
    with torch.no_grad():
        trace = vae.trace(x, 2)
        latent = trace.latents[0]
        values = {
            "log_px": trace.log_px.mean().item(),
            "log_p": latent.p.log_prob(torch.zeros(latent.z.shape[-1])).item(),
        }
        return {**values, "log_weight": trace.log_weight.mean().item()} if latent.has_density else values


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_old_checkpoints(file: Path) -> None:
    expected = json.loads((file.parent / "expected.json").read_text())[file.stem]
    assert read_checkpoint(file)["nelbo"]["format"] == int(file.parent.name.removeprefix("format-"))
    assert scores(file) == pytest.approx(expected, rel=1e-5)
    assert provenance(file)["data"] == "digits"


def test_old_checkpoints_of_format_1_are_not_resumed() -> None:
    """They have no random states, so that a resumed run would differ."""
    old = sorted(HOME.glob("format-1/*.ckpt"))
    with pytest.raises(CheckpointError, match=r"has no state to resume from; nelbo.load still reads its model"):
        newest(old)


def test_old_checkpoints_exist_for_every_earlier_format() -> None:
    for number in FORMATS:
        names = {file.stem for file in FILES if file.parent.name == f"format-{number}"}
        assert names or number == FORMAT, f"none of format {number}"
        if names:
            assert names == set(json.loads((HOME / f"format-{number}" / "expected.json").read_text()))


@pytest.mark.parametrize("number", [FORMAT + 1, 0, -1, 1.0, True, "1", None, [1], torch.tensor([1, 2])])
def test_old_checkpoints_of_unknown_formats(number: object, tmp_path: Path) -> None:
    checkpoint = torch.load(FILES[0], weights_only=True)
    torch.save({**checkpoint, "nelbo": {**checkpoint["nelbo"], "format": number}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"^[^\n]+other.ckpt: has format .*, this nelbo reads 1 and 2"):
        nelbo.load(tmp_path / "other.ckpt")
