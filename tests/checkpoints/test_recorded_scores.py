"""Checkpoints of earlier versions give the negative ELBO and the NLL of each image that they gave when recorded.

`data/scores.json` holds them, for the checkpoints in `format-*` and for those in `data`, which were trained with

    python train.py model=mlp_vae data=digits posterior=full_normal prior=vamp model.prior.components=5 \\
        model.latent_dim=2 model.encoder.hidden=[8] model.decoder.hidden=[8] trainer.max_epochs=1 \\
        callbacks=none logger=none

The environment variable NELBO_REGRESSION is that of `tests/models/test_regression.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.data import digits
from nelbo.evaluation import log_likelihood
from tests.helpers.forks import ROOT
from tests.helpers.recorded import EXACT, RECORD, Value, differences, mode, one_thread, read, write

HOME = ROOT / "tests" / "checkpoints"
RECORDED = HOME / "data" / "scores.json"
FILES = {f"{file.parent.name}/{file.stem}": file for file in sorted(HOME.glob("*/*.ckpt"))}


@one_thread()
def scores(file: Path) -> dict[str, Value]:
    """Return values of 8 images in nats: of one sample of q(z|x), and, if it has a density, of 64."""
    model = nelbo.load(file)
    x = digits().test.images[:8].float() / 255
    torch.manual_seed(0)
    with torch.no_grad():
        trace = model.trace(x, 1)
        if not trace.has_density:
            return {"reconstruction": (-trace.log_px[0]).tolist()}
        return {
            "nelbo": (trace.kl[0] - trace.log_px[0]).tolist(),
            "nll": (-log_likelihood(model, x, 64)).tolist(),
        }


def test_checkpoints_give_the_recorded_scores() -> None:
    found = {name: scores(file) for name, file in FILES.items()}
    if mode() == RECORD:
        write(RECORDED, found)
        pytest.skip(f"{RECORDED.name} was written")
    recorded = read(RECORDED)
    assert found.keys() == recorded.keys()
    for name, values in found.items():
        changed = differences(values, recorded[name], torch.float32, exact=mode() == EXACT)
        assert not changed, "\n".join([name, *changed])
