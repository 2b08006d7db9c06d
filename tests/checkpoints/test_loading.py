"""`nelbo.load`: models from run directories and checkpoints, and what it refuses."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal

import nelbo
from nelbo.checkpoints.container import read_plain
from nelbo.data import digits
from nelbo.errors import CheckpointError, ConfigError
from nelbo.models import VAE
from tests.helpers.factors import make_vae
from tests.helpers.forks import ROOT

CHECKPOINT = ROOT / "tests" / "checkpoints" / "format-1" / "mlp_vae.ckpt"


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


def test_the_loaded_model_returns_distributions(smoke_run: Path) -> None:
    vae = nelbo.load(smoke_run)
    x = torch.rand(3, 1, 8, 8)
    assert isinstance(vae.encode(x), Distribution) and vae.encode(x).batch_shape == (3,)
    px = vae.decode(torch.randn(4, 2, 2))
    assert isinstance(px, Independent) and isinstance(px.base_dist, Normal)
    assert px.batch_shape == (4, 2) and px.base_dist.loc.shape == (4, 2, 1, 8, 8)
    assert vae.generate(6).mean.shape == (6, 1, 8, 8)
    assert all(parameter.device.type == "cpu" for parameter in vae.parameters())


def test_the_loaded_model_reproduces_the_metrics_of_the_run(smoke_run: Path) -> None:
    """metrics.json holds the metrics of best.ckpt on the test images."""
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


class ChangedCheckpoint:
    """Writes changed copies of a run's best checkpoint."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.file = run / "checkpoints" / "best.ckpt"
        self.content = torch.load(self.file, weights_only=True)
        self.record = self.content["nelbo"]
        self.folder = folder

    def save(self, content: Any) -> Path:
        torch.save(content, self.folder / "changed.ckpt")
        return self.folder / "changed.ckpt"

    def write(self, content: bytes) -> Path:
        (self.folder / "written.ckpt").write_bytes(content)
        return self.folder / "written.ckpt"

    def with_parts(self, **parts: Any) -> Path:
        return self.save({**self.content, **parts})

    def with_model(self, **config: Any) -> Path:
        return self.with_parts(nelbo={**self.record, "model": config})

    def with_options(self, **options: Any) -> Path:
        return self.with_model(**{**self.record["model"], **options})


@pytest.fixture
def changed(smoke_run: Path, tmp_path: Path) -> ChangedCheckpoint:
    return ChangedCheckpoint(smoke_run, tmp_path)


def assert_refused(message: str, make: Callable[[], Path | str]) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        nelbo.load(make())
    assert "\n" not in str(caught.value)


def test_files_that_are_not_checkpoints_of_nelbo_are_refused_in_one_line(
    changed: ChangedCheckpoint, tmp_path: Path
) -> None:
    whole, content, marker = changed.file.read_bytes(), changed.content, tmp_path / "marker"
    for message, make in (
        ("no such checkpoint", lambda: tmp_path / "nothing"),
        ("no such checkpoint", lambda: tmp_path / ("x" * 300)),
        ("local files only", lambda: "http://127.0.0.1:9/best.ckpt"),
        ("not a readable checkpoint", lambda: changed.write(whole[: len(whole) // 2])),
        ("not a readable checkpoint", lambda: changed.write(b"")),
        ("not a readable checkpoint", lambda: changed.write(pickle.dumps(Payload(marker), protocol=2))),
        ("not a readable checkpoint", lambda: changed.save({"state_dict": Payload(marker)})),
        ("not written by nelbo", lambda: changed.save({"state_dict": {}})),
        ("not written by nelbo", lambda: changed.save([content])),
        ("not written by nelbo", lambda: changed.save(torch.zeros(3))),
        ("not written by nelbo", lambda: changed.with_parts(nelbo=OrderedDict(changed.record))),
        ("state_dict is not names", lambda: changed.with_parts(state_dict=[1])),
        ("state_dict is not names", lambda: changed.with_parts(state_dict={3: torch.zeros(1)})),
        ("state_dict is not names", lambda: changed.with_parts(state_dict={"model.x": 3})),
        ("holds a set, not only plain", lambda: changed.with_parts(more=[{"a": {1, 2}}])),
        ("holds a bytearray, not only", lambda: changed.with_parts(more=bytearray(3))),
        ("holds a Tensor, not only", lambda: changed.with_parts(more=torch.zeros(3, device="meta"))),
        ("holds a Tensor, not only", lambda: changed.with_parts(more=torch.eye(3).to_sparse())),
        ("has format 99", lambda: changed.with_parts(nelbo={**changed.record, "format": 99})),
    ):
        assert_refused(message, make)
    assert not marker.exists()


def test_checkpoints_whose_model_cannot_be_built_are_refused_in_one_line(changed: ChangedCheckpoint) -> None:
    recursive: dict[str, Any] = {}
    recursive["again"] = recursive
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    net = {"_target_": "nelbo.nets.MLP", "in_shape": [3], "hidden": [2], "activation": "ReLU"}
    for message, make in (
        ("describes a NoneType, not a model", lambda: changed.with_parts(nelbo={"format": 2})),
        ("describes a dict, not a model", lambda: changed.with_model()),
        ("describes a MLP, not a model", lambda: changed.with_model(**net)),
        ("describes a Factory, not a model", lambda: changed.with_options(_partial_=True)),
        ("levels deep", lambda: changed.with_options(more=recursive)),
        ("levels deep", lambda: changed.with_options(more=deep)),
        ("needs more memory than there is", lambda: changed.with_options(latent_dim=10**13)),
        ("cannot be built: model.shape=3", lambda: changed.with_options(shape=3)),
        ("its model cannot be built: model._target_=os.system", lambda: changed.with_options(_target_="os.system")),
        ("cannot be built: model.latent_dim=0", lambda: changed.with_options(latent_dim=0)),
        ("its tensors do not fit", lambda: changed.with_options(latent_dim=3)),
    ):
        assert_refused(message, make)


def test_only_whole_archives_are_read(tmp_path: Path) -> None:
    """Only archives as torch writes them are read; torch verifies no checksums and decompresses entries."""
    file = tmp_path / "other.ckpt"
    with zipfile.ZipFile(CHECKPOINT) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}

    def zipped(compression: int = zipfile.ZIP_STORED, comment: bytes = b"", **more: bytes) -> bytes:
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in {**entries, **more}.items():
                archive.writestr(name, content)
            archive.comment = comment
        return file.read_bytes()

    def twice() -> bytes:
        with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            for name, content in [*entries.items(), *entries.items()]:
                archive.writestr(name, content)
        return file.read_bytes()

    def flipped() -> bytes:
        """An archive with one bit of a weight changed."""
        content = bytearray(CHECKPOINT.read_bytes())
        weights = max((entry for name, entry in entries.items() if "/data/" in name), key=len)
        content[content.index(weights) + len(weights) // 2] ^= 1
        return bytes(content)

    def overlapping() -> bytes:
        """An archive with one entry inside another."""
        inner = zipped()
        with zipfile.ZipFile(file) as archive:
            first = archive.infolist()[0]
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/all", inner[: first.file_size + 1000])
            first.header_offset += archive.fp.tell() - len(inner[: first.file_size + 1000])  # type: ignore[union-attr]
            archive.filelist.append(first)
        return file.read_bytes()

    assert torch.load(CHECKPOINT, weights_only=True).keys() == read_plain(CHECKPOINT).keys()
    file.write_bytes(zipped())
    nelbo.load(file)  # the unchanged archive, which those below change
    bad: list[tuple[str, Callable[[], bytes]]] = [
        ("it is damaged: the checksum of archive/data/", flipped),
        ("it has compressed entries", lambda: zipped(zipfile.ZIP_DEFLATED)),
        ("it has compressed entries", lambda: zipped(zipfile.ZIP_LZMA)),
        ("it has compressed entries", lambda: zipped(comment=b"PK")),
        ("it has two entries of the same name", twice),
        ("its entries overlap", overlapping),
        ("it is not an archive", lambda: b"x" + zipped()),
        ("TorchScript", lambda: zipped(**{"archive/constants.pkl": b""})),
    ]
    for message, make in bad:
        file.write_bytes(make())
        with pytest.raises(CheckpointError, match=rf"^[^\n]+: not a readable checkpoint: {message}[^\n]*$|{message}"):
            nelbo.load(file)


def test_models_of_other_packages_load_only_if_the_user_allows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mypackage.py").write_text("from nelbo.models import VAE\nclass Mine(VAE):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint = read_plain(CHECKPOINT)
    checkpoint["nelbo"]["model"]["_target_"] = "mypackage.Mine"
    torch.save(checkpoint, tmp_path / "mine.ckpt")
    assert type(nelbo.load(tmp_path / "mine.ckpt", allow=("mypackage.",))).__mro__[1] is VAE
    with pytest.raises(CheckpointError, match="_target_=mypackage.Mine: is not among"):
        nelbo.load(tmp_path / "mine.ckpt")
    for bad in ("mypackage.", ("mypackage",), (7,), [""], ["."], ["../x."], ["my package."], None):
        with pytest.raises(ConfigError, match="^allow=[^\n]+: must be a"):
            nelbo.load(tmp_path / "mine.ckpt", allow=bad)  # type: ignore[arg-type]


def test_generated_images_have_no_gradient_and_decoded_ones_have(smoke_run: Path) -> None:
    vae = nelbo.load(smoke_run)
    px = vae.generate(6)
    assert px.mean.numpy().shape == px.sample().numpy().shape == (6, 1, 8, 8)
    assert not px.log_prob(px.sample()).requires_grad
    z = torch.zeros(1, 2, requires_grad=True)
    vae.decode(z).mean.sum().backward()
    assert z.grad is not None and z.grad.any()
    assert all(parameter.requires_grad for parameter in vae.parameters())


UNIT = torch.linspace(0, 1, 192).reshape(3, 1, 8, 8)
WRONG = {
    "uint8": ((UNIT * 255).to(torch.uint8), r"images as floats in \[0, 1\], got torch.uint8: x.float\(\) / 255"),
    "bool": (UNIT > 0.5, r"images as floats in \[0, 1\], got torch.bool: x.float\(\), divided by the largest"),
    "levels": ((UNIT * 16).round().long(), r"images as floats in \[0, 1\], got torch.int64: x.float\(\), divided by"),
    "to_255": ((UNIT * 255).round(), r"pixels in \[0, 1\], got 0 to 255: x / 255"),
    "to_16": (UNIT / UNIT.max() * 16, r"pixels in \[0, 1\], got .* to 16: divide them by the largest possible value"),
    "centred": (UNIT * 2 - 1, r"pixels in \[0, 1\], got -.* to .*: \(x \+ 1\) / 2"),
    "resized": (UNIT * 1.1, r"pixels in \[0, 1\], got .* to 1.1: x.clamp\(0, 1\)"),
    "nan": (UNIT.log().sqrt(), r"pixels in \[0, 1\], got nan to nan: the images contain NaN"),
    "double": (
        UNIT.double(),
        r"images of torch.float32, the dtype of the model, got torch.float64: x.to\(torch.float32\)",
    ),
    "numpy": (UNIT.numpy(), r"images as a torch.Tensor, got ndarray: torch.as_tensor\(x\)"),
    "one": (UNIT[0], r"images of shape \(B, 1, 8, 8\), got \(1, 8, 8\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_images_of_the_wrong_type_range_or_shape_are_refused_in_one_line(name: str, smoke_run: Path) -> None:
    x, message = WRONG[name]
    vae = nelbo.load(smoke_run)
    for function in (vae.encode, vae.trace):
        with pytest.raises(ValueError, match=f"^expected {message}[^\n]*$"):
            function(x)  # type: ignore[arg-type]
    for valid in (UNIT, UNIT.round(), UNIT[:0]):
        assert vae.encode(valid).batch_shape == (len(valid),)


def test_pixels_are_checked_only_in_eval_mode_of_loaded_models() -> None:
    """Training and validation check the data once beforehand, not in every step."""
    loaded, made = nelbo.load(CHECKPOINT), make_vae(shape=(1, 8, 8))
    for model, training, expected in (
        (loaded, False, True),
        (loaded, True, False),
        (made, True, False),
        (made, False, False),
    ):
        check = mock.Mock()
        with mock.patch("nelbo.models.model.check_pixels", check):
            model.train(training).trace(UNIT)
        assert check.called == expected
        with pytest.raises(ValueError, match="got torch.uint8"):
            model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    loaded.eval().checks_pixels = False
    assert loaded.encode(3 * UNIT - 1).batch_shape == (3,)  # samples of a Gaussian leave [0, 1] too
