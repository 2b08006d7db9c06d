"""scripts/draw.py on a finished run: files that open, the same bytes for the same seed, and errors in one line."""

from __future__ import annotations

import logging
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nelbo.models import VAE
from tests.helpers.forks import ROOT, forked, python

KINDS = ["interpolation", "kl", "manifold", "posterior", "reconstructions", "samples", "traversal"]
OF_LEVELS = ["kl_maps", "level_reconstructions", "level_samples"]
OF_CLASSES = ("by_class", "every_class")
"""Kinds that a model with one level of latents refuses."""

Draw = Callable[..., str]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Draw:
    """`draw(*arguments)` runs the script in this process and returns its output, or the line of its error."""
    # The script captures warnings, which other tests must still see.
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> str:
        caplog.clear()
        monkeypatch.setattr(sys, "argv", ["draw.py", *arguments])
        try:
            with torch.random.fork_rng():
                runpy.run_path(str(ROOT / "scripts" / "draw.py"), run_name="__main__")
        except SystemExit as end:
            if not end.code:  # Hydra's --help
                return capsys.readouterr().out
            assert end.code == 2
            lines = [*(record.getMessage() for record in caplog.records), *capsys.readouterr().err.splitlines()]
            assert len(lines) == 1 and lines[0].startswith("error: "), lines
            return lines[0].removeprefix("error: ")
        return capsys.readouterr().out.strip()

    return run


@pytest.fixture
def copied(smoke_run: Path, tmp_path: Path) -> Path:
    """A copy of the run for each test, which has no pictures of other tests."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(smoke_run / "checkpoints" / "best.ckpt", tmp_path / "run" / "checkpoints")
    return tmp_path / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_writes_a_picture_into_the_run(draw: Draw, copied: Path, kind: str) -> None:
    file = copied / "pictures" / f"{kind}.png"
    assert draw(kind, f"run={copied}") == str(file)
    with Image.open(file) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB" and min(picture.size) > 150


def test_pictures_of_levels_are_refused_in_one_line_for_a_model_with_one_level(draw: Draw, copied: Path) -> None:
    for kind in OF_LEVELS:
        message = draw(kind, f"run={copied}")
        assert re.fullmatch(r"run=run: has (no|one) level of .*; draw [a-z]+( instead)?", message), message
    assert not (copied / "pictures").exists() or not list((copied / "pictures").iterdir())


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run with three levels of latents, of which two are maps."""
    folder = tmp_path_factory.mktemp("deep") / "run"
    small = ["width=8", "hidden=4", "depth=1", "top_width=8", "latent_dim=4", "layout=[1x1,4x2]"]
    overrides = ["model=top_down_vae", *(f"model.{option}" for option in small), "lr_warm_up=0", "data=digits"]
    done = forked("train.py", *overrides, "trainer=smoke", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_kind_draws_a_model_with_several_levels(draw: Draw, deep_run: Path, tmp_path: Path) -> None:
    """The kinds are those of conf/picture."""
    kinds = sorted(file.stem for file in (ROOT / "conf" / "picture").glob("*.yaml"))
    assert kinds == sorted((*KINDS, *OF_LEVELS, *OF_CLASSES))
    variants = [
        ("traversal", "level=2"),
        ("traversal", "level=3", "image=null", "units=[0]"),
        ("level_samples", "upper=1"),
    ]
    variants += [("interpolation", "levels=top"), ("samples", "temperature=[1,0.5,0]"), ("traversal", "level=4")]
    for kind, *options in [*((kind,) for kind in kinds), *variants]:
        file = tmp_path / f"{kind}.png"
        answer = draw(kind, f"run={deep_run}", f"out={file}", *options)
        if kind in OF_CLASSES:
            assert answer == "run=run: is not conditioned on a class that is not bound; see conditioning=label"
            continue
        if "level=4" in options:
            assert answer == "level=4: the model has levels 1 (top) to 3"
            continue
        assert answer == str(file)
        with Image.open(file) as picture:
            assert picture.format == "PNG" and picture.mode == "RGB" and min(picture.size) > 120, kind
        file.unlink()


@pytest.mark.parametrize("suffix", ["png", "npz"])
def test_the_same_seed_gives_the_same_bytes(draw: Draw, copied: Path, suffix: str) -> None:
    files = [copied / f"{number}.{suffix}" for number in range(3)]
    for seed, file in zip((1, 1, 2), files, strict=True):
        draw("samples", f"run={copied}/checkpoints/best.ckpt", f"seed={seed}", f"out={file}")
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("samples", {"x": (12, 1, 8, 8), "z": (12, 2)}),
        ("reconstructions", {"x": (12, 1, 8, 8), "means": (12, 1, 8, 8), "z": (12, 2), "labels": (12,)}),
        ("traversal", {"x": (2, 4, 1, 8, 8), "z": (2, 4, 2), "units": (2,), "kl": (2,)}),
        (
            "interpolation",
            {"x": (3, 4, 1, 8, 8), "z": (3, 4, 2), "inputs": (3, 2, 1, 8, 8), "labels": (3, 2)},
        ),
        ("manifold", {"x": (3, 4, 1, 8, 8), "z": (3, 4, 2), "units": (2,)}),
    ],
)
def test_arrays(draw: Draw, copied: Path, kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    draw(kind, f"run={copied}", "rows=3", "columns=4", f"out={copied}/new/x.npz")
    with np.load(copied / "new" / "x.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == shapes


def test_arrays_of_the_posterior(draw: Draw, copied: Path) -> None:
    draw("posterior", f"run={copied}", "limit=50", "method=pca", "codes=sample", f"out={copied}/x.npz")
    with np.load(copied / "x.npz") as arrays:
        assert arrays["z"].shape == arrays["points"].shape == (50, 2) and arrays["prior"].shape == (2000, 2)
        assert len(set(arrays["labels"].tolist())) == 10


def test_temperature_is_a_top_level_key(draw: Draw, copied: Path) -> None:
    codes = []
    for temperature in (1.0, 0.5):
        draw("samples", f"run={copied}", f"temperature={temperature}", f"out={copied}/x.npz")
        with np.load(copied / "x.npz") as arrays:
            codes.append(arrays["z"])
    np.testing.assert_allclose(codes[1], 0.5 * codes[0], rtol=1e-5)


def test_pictures_that_move(draw: Draw, copied: Path) -> None:
    draw("traversal", f"run={copied}", "columns=3", f"out={copied}/x.gif")
    with Image.open(copied / "x.gif") as movie:
        assert movie.format == "GIF" and movie.n_frames > 1
    draw("interpolation", f"run={copied}", "rows=2", "columns=3", f"out={copied}/x.mp4")
    assert (copied / "x.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_prior_needs_no_data(draw: Draw, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = copied / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["nelbo"]["provenance"]["data_sha256"] = "another"
    torch.save(checkpoint, file)
    for arguments in (["samples"], ["manifold"], ["traversal", "image=null", "units=[1]"]):
        assert Path(draw(*arguments, f"run={copied}")).is_file()
    for arguments in (["reconstructions"], ["traversal", "image=null"]):
        assert "digits is not the data that it was trained on" in draw(*arguments, f"run={copied}")


def test_errors_are_one_line(draw: Draw, copied: Path) -> None:
    run = f"run={copied}"
    kinds = f"usage: python scripts/draw.py {'|'.join(sorted((*KINDS, *OF_LEVELS, *OF_CLASSES)))} run=..."
    for arguments, message in (
        ([], kinds),
        ([run], kinds),
        (["sample", run], f"sample: unknown argument; did you mean samples or level_samples? {kinds}"),
        (["samples"], "run: has no default; type run=..."),
        (["samples", "run=/nowhere"], "run=/nowhere: no such checkpoint"),
        (["samples", "run=[a,b]"], "must be one run's directory or checkpoint, not a list"),
        (["samples", run, "rows=0"], "rows=0: must be a whole number of at least 1"),
        (["samples", run, "temperature=-1"], "temperature=-1: must be a finite number above 0"),
        (["samples", run, "image=3"], "image=3: there is no such key; image is a key of manifold or traversal"),
        (["samples", run, "+image=3"], "+image=3: nothing reads this key; image is a key of manifold or traversal"),
        (["samples", str(copied)], f"{copied}: not an override, which is key=value; did you mean run={copied}?"),
        (["samples", "traversal", run], "samples traversal: one kind of picture at a time; usage: "),
        (["samples", run, "seed=-1"], "seed=-1"),
        (["samples", run, "device=tpu"], "device=tpu: must be auto, or as torch names it"),
        (["samples", run, "out=x.jpg"], "out=x.jpg: must end in one of .png, .npz, .gif, .mp4"),
        (["samples", run, "out=x.gif"], "out=x.gif: this picture does not move"),
        (
            ["samples", run, "out=/dev/null/x.png"],
            "out=/dev/null/x.png: cannot be written: File exists; use another out=FILE",
        ),
        (["reconstructions", run, "split=dev"], "split=dev: must be one of test, val, train"),
        (["traversal", run, "image=100000"], "image=100000: the test split has images 0 to 296"),
        (["posterior", run, "method=lda"], "method=lda: must be one of auto, none, pca, tsne, umap"),
    ):
        assert message in draw(*arguments), arguments


def test_pictures_are_drawn_in_ieee_float32(draw: Draw, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames too, which are drawn when the file is written."""
    precisions, decode = [], VAE.decode

    def spy(self: VAE, z: torch.Tensor) -> Any:
        precisions.append(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
        return decode(self, z)

    monkeypatch.setattr(VAE, "decode", spy)
    draw("traversal", f"run={copied}", "columns=3", f"out={copied}/x.gif")
    assert len(precisions) > 1 and set(precisions) == {"ieee"}
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


def test_the_script_in_a_process_of_its_own(copied: Path) -> None:
    done = python("scripts/draw.py", "samples", f"run={copied}", "temperature=0.7")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip() == f"{copied}/pictures/samples.png"


def test_help(draw: Draw) -> None:
    text = draw("--help")
    assert all(f"draw.py {kind}" in text for kind in KINDS)
    assert "method: auto" in draw("posterior", "--help")
