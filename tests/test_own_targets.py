"""Classes of one's own in a config: from training to evaluation, and only where they are allowed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import nelbo
from nelbo.errors import CheckpointError
from tests.forks import forked
from tests.interrupted import SMALL

OWN = ("~model.encoder", "+model.encoder={_target_:tests.own_package.Wide,_partial_:true,width:12}")
ALLOWED = "allow_targets=[tests.]"


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = ("tests/stopping.py", "nowhere:0:SIGTERM", *SMALL, *OWN, "trainer=smoke", f"hydra.run.dir={folder}")
    refused = forked(*start)
    assert refused.returncode == 2 and "model.encoder._target_=tests.own_package.Wide: is not among" in refused.stderr
    done = forked(*start, ALLOWED)
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match=r"model.encoder._target_=tests.own_package.Wide: is not among"):
        nelbo.load(folder)
    assert type(nelbo.load(folder, allow=("tests.",)).encoder).__name__ == "Wide"

    more = forked(*start, ALLOWED, "resume=auto", "trainer.max_epochs=2")
    assert more.returncode == 0, more.stderr
    evaluate = ("scripts/evaluate.py", f"run={folder}", "metrics=[elbo]", "limit=50")
    assert forked(*evaluate).returncode == 2
    told = forked(*evaluate, ALLOWED)
    assert told.returncode == 0 and "nelbo" in told.stdout, told.stderr
