"""The library face: a run directory back to a model."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal

import nelbo
from nelbo.data import digits
from nelbo.errors import CheckpointError


def test_a_run_loads_without_hydra_trainer_or_data(smoke_run: Path) -> None:
    code = (
        "import sys, torch, nelbo\n"
        f"vae = nelbo.load({str(smoke_run)!r})\n"
        "assert not vae.training\n"
        "trace = vae.trace(torch.rand(3, 1, 8, 8), 5)\n"
        "assert trace.log_px.shape == trace.kl.shape == (5, 3)\n"
        "heavy = {'pytorch_lightning', 'hydra', 'omegaconf', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"NELBO_DATA": "/nowhere"})


def test_the_loaded_model_speaks_in_distributions(smoke_run: Path) -> None:
    vae = nelbo.load(smoke_run)
    x = torch.rand(3, 1, 8, 8)
    assert isinstance(vae.encode(x), Distribution) and vae.encode(x).batch_shape == (3,)
    px = vae.decode(torch.randn(4, 2, 2))
    assert isinstance(px, Independent) and isinstance(px.base_dist, Normal)
    assert px.batch_shape == (4, 2) and px.base_dist.loc.shape == (4, 2, 1, 8, 8)
    assert vae.generate(6).mean.shape == (6, 1, 8, 8)
    assert all(parameter.device.type == "cpu" for parameter in vae.parameters())


def test_the_loaded_model_scores_what_the_run_reported(smoke_run: Path) -> None:
    """metrics.json is of best.ckpt: three test batches of 256, as trainer=smoke has it."""
    vae = nelbo.load(smoke_run)
    x = digits().test.images.float() / 255
    with torch.no_grad():
        trace = vae.trace(x, 500)
    reported = json.loads((smoke_run / "metrics.json").read_text())
    assert abs(-(trace.log_px - trace.kl).mean() - reported["test/nelbo"]) < 0.5
    torch.testing.assert_close(trace.kl.mean().item(), reported["test/kl"], rtol=1e-4, atol=1e-5)


def test_best_and_last_open_with_weights_only(smoke_run: Path) -> None:
    for name in ("best", "last"):
        checkpoint = torch.load(smoke_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["state_dict"] and checkpoint["nelbo"]["data"]["protocol"] == "raw"
        nelbo.load(smoke_run / "checkpoints" / f"{name}.ckpt")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_what_is_no_checkpoint_of_ours_is_one_line(smoke_run: Path, tmp_path: Path) -> None:
    whole = (smoke_run / "checkpoints" / "best.ckpt").read_bytes()
    record = torch.load(smoke_run / "checkpoints" / "best.ckpt", weights_only=True)
    marker = tmp_path / "marker"

    def saved(content: Any) -> Path:
        torch.save(content, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    def changed(**model: Any) -> Path:
        return saved({**record, "nelbo": {**record["nelbo"], "model": {**record["nelbo"]["model"], **model}}})

    def written(content: bytes) -> Path:
        (tmp_path / "written.ckpt").write_bytes(content)
        return tmp_path / "written.ckpt"

    cases = [
        ("no such checkpoint", lambda: tmp_path / "nothing"),
        ("local files only", lambda: "http://127.0.0.1:9/best.ckpt"),
        ("not a readable checkpoint", lambda: written(whole[: len(whole) // 2])),
        ("not a readable checkpoint", lambda: written(b"")),
        ("not a readable checkpoint", lambda: written(pickle.dumps(Payload(marker), protocol=2))),
        ("not a readable checkpoint", lambda: saved({"state_dict": Payload(marker)})),
        ("not written by nelbo", lambda: saved({"state_dict": {}})),
        ("has format 99", lambda: saved({**record, "nelbo": {**record["nelbo"], "format": 99}})),
        ("its model cannot be built: model._target_=os.system", lambda: changed(_target_="os.system")),
        ("cannot be built: model.latent_dim=0", lambda: changed(latent_dim=0)),
        ("its tensors do not fit", lambda: changed(latent_dim=3)),
    ]
    for message, make in cases:
        with pytest.raises(CheckpointError, match=message) as caught:
            nelbo.load(make())
        assert "\n" not in str(caught.value)
    assert not marker.exists()
