"""Configs, checkpoints and archives that try to run code or write files: the marker file never appears."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nelbo
from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.build import MODEL_PREFIXES, RUN_PREFIXES, build, check_targets, user_prefixes
from nelbo.data import array_file
from nelbo.data.origins import copy_member
from nelbo.errors import CheckpointError, ConfigError, DataError, NelboError
from nelbo.finished.run import DATA_PREFIXES, FinishedRun
from tests.helpers.forks import ROOT, forked
from tests.helpers.hostile import more_than_targets, payloads
from tests.helpers.server import HITS, PAGES

CHECKPOINT = ROOT / "tests" / "checkpoints" / "format-1" / "mlp_vae.ckpt"
NAMES = ("torch.load", "numpy.load", "pathlib.Path.write_text", "shutil.copyfile", "builtins.open")


class Payload:
    """An object whose unpickling creates the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Path of the file that must never appear."""
    return tmp_path / "marker"


@pytest.fixture
def hostile(tmp_path: Path, marker: Path) -> list[dict[str, Any]]:
    """Mappings whose `_target_` would create the marker."""
    script, pickled = tmp_path / "script.py", tmp_path / "pickled.npy"
    script.write_text(f"open({str(marker)!r}, 'w')")
    pickled.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    return payloads(marker, script, pickled)


@functools.cache
def whole() -> dict[str, Any]:
    """Return the content of a valid checkpoint."""
    return read_checkpoint(CHECKPOINT)


def changed(tmp_path: Path, **record: Any) -> Path:
    """Write the valid checkpoint with changes to its record, and return the file."""
    torch.save({**whole(), "nelbo": {**whole()["nelbo"], **record}}, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


def test_malicious_input_the_payloads_work(hostile: list[dict[str, Any]], marker: Path) -> None:
    """The payloads create the marker if the user allows them; otherwise the other tests would prove nothing."""
    assert len(hostile) >= 50
    chosen = {str(spec["_target_"]): spec for spec in hostile}
    build(chosen["shutil.copyfile"], allowed=user_prefixes("allow", ["shutil."]))
    assert marker.exists()
    for name, allowed in (("torch.load", ("torch.",)), ("numpy.load", ("numpy.",))):
        marker.unlink()
        with contextlib.suppress(ConfigError):  # torch notices too late that the file is not a checkpoint
            build(chosen[name], allowed=allowed)
        assert marker.exists()


def test_malicious_input_targets_of_configs(hostile: list[dict[str, Any]], marker: Path) -> None:
    made = []
    for spec in hostile:
        tree = {"data": {"_target_": "nelbo.nets.MLP"}, "evil": [{"inner": spec}]}
        for allowed in (RUN_PREFIXES, MODEL_PREFIXES, DATA_PREFIXES, ("nelbo.evaluation.",), ("nelbo.pictures.",)):
            with pytest.raises(ConfigError, match=r"^[^\n]+$") as caught:
                made.append(build(tree, "model", allowed))
            assert "_target_=" in str(caught.value), spec
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            made.append(build({**spec, "_partial_": True}, "model"))
    assert not made and not marker.exists()


def test_malicious_input_other_trees(marker: Path) -> None:
    for tree in more_than_targets(marker):
        with pytest.raises(ConfigError, match=r"^[^\n]{1,400}$"):
            check_targets(tree)
        with pytest.raises(ConfigError, match=r"^[^\n]{1,400}$"):
            build({"model": tree})


def test_malicious_input_nothing_is_built_before_all_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr("nelbo.schedules.Linear.__post_init__", lambda self: built.append("linear"))
    good = {"_target_": "nelbo.schedules.Linear", "steps": 3}
    for bad in ("os.system", "nelbo.data.fetch.fetch", "nelbo.nets.Nothing"):
        with pytest.raises(ConfigError, match="_target_="):
            build({"first": good, "second": {"_target_": bad}})
    assert not built
    build({"first": good})
    assert built == ["linear"]


def test_malicious_input_targets_of_checkpoints(hostile: list[dict[str, Any]], marker: Path, tmp_path: Path) -> None:
    sound, model, data = nelbo.load(CHECKPOINT), whole()["nelbo"]["model"], whole()["nelbo"]["data"]
    for index, spec in enumerate(hostile):
        slots = [{**model, "encoder": spec}, {**model, "prior": {**spec, "_partial_": True}}, spec]
        file = changed(tmp_path, model=slots[index % 3], data={**data, "source": {**spec, "_partial_": True}})
        with pytest.raises(CheckpointError, match=r"^[^\n]+_target_=[^\n]+$"):
            nelbo.load(file)
        with pytest.raises(NelboError, match=r"^[^\n]+_target_=[^\n]+$"):
            run = FinishedRun(file, read_checkpoint(file)["nelbo"], 0, sound)
            assert run.data, "never"
    assert not marker.exists()


def test_malicious_input_a_checkpoint_widens_nothing(tmp_path: Path) -> None:
    """Only the caller decides which targets are allowed."""
    model = whole()["nelbo"]["model"]
    hostile = {**model, "encoder": {"_target_": "fractions.Fraction", "_partial_": True}}
    file = changed(tmp_path, model=hostile, allow_targets=["fractions."], allow=["fractions."])
    with pytest.raises(CheckpointError, match="encoder._target_=fractions.Fraction: is not among the packages"):
        nelbo.load(file)
    with pytest.raises(CheckpointError, match="a Rational"):  # the target was called
        nelbo.load(file, allow=("fractions.",))
    data = {**whole()["nelbo"]["data"], "source": {"_target_": "fractions.Fraction", "_partial_": True}}
    widened = {"data": data, "allow_targets": ["fractions."], "allow": ["fractions."], "moved": {}}
    run = FinishedRun.open(changed(tmp_path, **widened))
    with pytest.raises(ConfigError, match="source._target_=fractions.Fraction: is not among the packages"):
        assert run.data, "never"


def pickles(tmp_path: Path, marker: Path) -> list[Path]:
    """Return checkpoints whose unpickling creates the marker, in every format that torch reads."""
    files = [tmp_path / f"{name}.ckpt" for name in ("bare", "archive", "legacy", "mixed")]
    files[0].write_bytes(pickle.dumps(Payload(marker), protocol=2))
    torch.save({"state_dict": Payload(marker)}, files[1])
    torch.save({"state_dict": Payload(marker)}, files[2], _use_new_zipfile_serialization=False)
    torch.save({**whole(), "callbacks": Payload(marker)}, files[3])
    return files


def test_malicious_input_pickles(tmp_path: Path, marker: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pickles(tmp_path, marker)
    torch.load(files[1], weights_only=False)
    assert marker.exists(), "the payload works"
    marker.unlink()
    monkeypatch.setitem(PAGES, "/evil.ckpt", files[1].read_bytes())
    for override in ("0", "1"):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", override)
        for file in files:
            for reader in (nelbo.load, read_checkpoint, FinishedRun.open, nelbo.checkpoints.record.provenance):
                with (
                    pytest.raises(CheckpointError, match=r"^[^\n]+: not a readable checkpoint: [^\n]+$"),
                    warnings.catch_warnings(action="ignore"),  # torch warns that it obeys the variable
                ):
                    reader(file)
        address = f"{server}/evil.ckpt"
        for place in (address, Path(address), "file://" + str(files[1]), "s3://a/b", Path("hf://a/b"), "FTP://a/b"):
            for reader in (nelbo.load, read_checkpoint, FinishedRun.open, nelbo.checkpoints.record.provenance):
                with pytest.raises(CheckpointError, match="local files only"):
                    reader(place)
        assert not HITS["/evil.ckpt"] and not marker.exists()


@pytest.mark.parametrize("script", ["evaluate", "draw"])
def test_malicious_input_scripts(script: str, tmp_path: Path, marker: Path, server: str) -> None:
    model = whole()["nelbo"]["model"]
    spec = {"_target_": "shutil.copyfile", "src": str(CHECKPOINT), "dst": str(marker)}
    places = [
        str(pickles(tmp_path, marker)[1]),
        f"{server}/evil.ckpt",
        str(changed(tmp_path, model={**model, "x": spec})),
    ]
    for place, message in zip(places, ("not a readable", "local files only", "_target_=shutil.copyfile"), strict=True):
        arguments = [*(["samples"] if script == "draw" else []), f"run={place}"]
        done = forked(f"scripts/{script}.py", *arguments, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not marker.exists()


@pytest.mark.parametrize("target", NAMES)
def test_malicious_input_on_the_command_line(
    target: str, hostile: list[dict[str, Any]], marker: Path, tmp_path: Path
) -> None:
    """The five targets that Hydra itself would instantiate."""
    (spec,) = [spec for spec in hostile if spec["_target_"] == target]
    options = ",".join(f"{key}:'{value}'" for key, value in spec.items())
    run = ["model=mlp_vae", "data=digits", "trainer=smoke", f"hydra.run.dir={tmp_path / 'run'}"]
    done = forked("train.py", *run, f"+callbacks.evil={{{options}}}")
    assert done.returncode == 2 and f"error: callbacks.evil._target_={target}: is not among" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not marker.exists()


def slips(marker: Path, secret: Path) -> bytes:
    """Return a tar archive whose members point outside: upwards, absolute, through links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, to, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"evil"))

        for name in ("../marker", "../../marker", str(marker), f"a/../../{marker.name}"):
            add(name)
        add("out", tarfile.SYMTYPE, str(marker.parent))
        add("out/marker")
        add("symlink", tarfile.SYMTYPE, str(secret))
        add("hardlink", tarfile.LNKTYPE, str(secret))
        add("device", tarfile.CHRTYPE)
        add("fifo", tarfile.FIFOTYPE)
        add("folder", tarfile.DIRTYPE)
    return buffer.getvalue()


def test_malicious_input_tar_slips(tmp_path: Path, marker: Path) -> None:
    secret, archive, target = tmp_path / "secret", tmp_path / "slip.tgz", tmp_path / "deep" / "er" / "target"
    target.parent.mkdir(parents=True)
    secret.write_text("secret")
    archive.write_bytes(slips(marker, secret))
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    before = set(tmp_path.rglob("*"))
    for name in names:
        try:
            copy_member(archive, name, target, 100)
        except ValueError as error:
            assert "is not a file in the archive" in str(error)
        else:
            assert target.read_bytes() == b"evil", name  # the content of the member, at the path of the caller
    assert not marker.exists() and set(tmp_path.rglob("*")) <= before | {target}
    with tarfile.open(archive) as opened:
        opened.extract("../../marker", target.parent, filter="fully_trusted")  # unpacking would have created the marker
    assert marker.exists()


def test_malicious_input_zip_slips(tmp_path: Path, marker: Path) -> None:
    home = tmp_path / "deep" / "er"
    home.mkdir(parents=True)
    images = io.BytesIO()
    np.save(images, np.zeros((30, 4, 4), np.uint8))
    for name in ("../marker", "../../marker.npy", str(marker), "images", "images.npy"):
        with zipfile.ZipFile(home / "slip.npz", "w") as archive:
            archive.writestr(name, images.getvalue())
        try:
            arrays = array_file(path=str(home / "slip.npz"), test_size=0.2, seed=0)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert name.startswith("images") and len(arrays.train) == 24
    assert not marker.exists() and [file.name for file in home.iterdir()] == ["slip.npz"]


def test_malicious_input_archives_are_never_unpacked() -> None:
    unpacks = re.compile(
        r"\.extract\(|\.extractall\(|unpack_archive|allow_pickle=True|load\([^)]*weights_only=False|pickle\.loads?\("
    )
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "train.py"]
    assert not [str(file) for file in files if unpacks.search(file.read_text())]
    for file in files:
        for call in re.findall(r"torch\.load\(.*", file.read_text()):
            assert "weights_only=True" in call, file
