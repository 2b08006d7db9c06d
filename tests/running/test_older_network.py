"""Runs of `model=mlp_vae` that began when it was the network of tanh units, without an average of the weights."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.helpers.forks import Train

OTHER = ("data=digits", "trainer=smoke", "threads=1")


def test_such_a_run_resumes_with_its_own_network(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train("model=tanh_mlp_vae", *OTHER, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    for name in ("overrides.yaml", "config.yaml"):  # as the earlier version wrote them
        file = run / name
        content = yaml.safe_load(file.read_text())
        if name == "overrides.yaml":
            content = ["model=mlp_vae" if one == "model=tanh_mlp_vae" else one for one in content]
        else:
            for net in ("encoder", "decoder"):
                assert content["model"][net].pop("residual") is False
            assert content["averaging"] == {} and "center" not in content["model"]["encoder"]
        file.write_text(yaml.safe_dump(content))
    resumed = train(f"resume={run}", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert metrics["epochs"] == 2
    assert config["model"]["encoder"]["activation"] == "Tanh" and config["averaging"] == {}
