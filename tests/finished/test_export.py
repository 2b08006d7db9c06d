"""Exported models: each program gives what the model gives, and the files can be used without the run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.errors import CheckpointError, NelboError
from nelbo.finished import export as exporting
from nelbo.finished.export import SIZES, TOLERANCE, Part, export, parts_of
from nelbo.finished.run import FinishedRun
from nelbo.models import Model
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import CODE_POSTERIORS, CODE_PRIORS, LIKELIHOODS, POSTERIORS, PRIORS, make_vae
from tests.helpers.forks import ROOT, forked

STORED = ROOT / "tests" / "checkpoints" / "format-2"


def model_of(kind: str) -> Model:
    """A tiny model with random weights, in eval mode."""
    torch.manual_seed(0)
    if kind in ("ladder", "top_down"):
        return make_hierarchy(kind).eval()
    posterior, prior, likelihood = kind.split(" ")
    assert posterior in POSTERIORS | CODE_POSTERIORS and prior in PRIORS | CODE_PRIORS and likelihood in LIKELIHOODS
    return make_vae("mlp", posterior, prior, likelihood).eval()


@pytest.mark.parametrize(
    "kind",
    [
        "diagonal_normal standard_normal bernoulli",
        "full_normal diagonal_normal gaussian",
        "laplace flow_coupling discretized_logistic",
        "diagonal_normal vamp bernoulli",
        "categorical uniform bernoulli",
        "ladder",
        "top_down",
    ],
)
@torch.no_grad()
def test_programs_give_what_the_model_gives(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    parts, left_out = parts_of(model)
    assert set(parts) == {"encoder", "decoder", "sampler"} - ({"sampler"} if left_out else set())
    assert bool(left_out) == ("vamp" in kind or "uniform" in kind)
    for name, part in parts.items():
        run = exporting._torch(part, tmp_path / f"{name}.pt2")
        for count in SIZES:
            assert exporting._difference(part, run, count) < TOLERANCE, name
    torch.manual_seed(0)
    x = torch.rand(3, *model.shape)
    trace = model.draw(x, model.infer(x), 1, mode=True)
    zs = parts["encoder"].module(x)
    assert all(torch.equal(z, latent.z[0]) for z, latent in zip(zs, trace.latents, strict=True))
    torch.testing.assert_close(parts["decoder"].module(*zs), trace.px.mean[0])


@torch.no_grad()
def test_the_sampler_makes_samples_of_the_model() -> None:
    """Its images have the mean and the spread of those that the model generates."""
    model = model_of("diagonal_normal flow_coupling gaussian")
    sampler = parts_of(model)[0]["sampler"]
    torch.manual_seed(0)
    own, theirs = sampler.module(*sampler.example(4000)).flatten(1), model.generate(4000).mean.flatten(1)
    spread = theirs.std(0)
    assert ((own.mean(0) - theirs.mean(0)).abs() < 5 * spread * (2 / 4000) ** 0.5).all()
    assert ((own.std(0) / spread).log().abs() < 0.15).all()


def test_files_of_all_formats(tmp_path: Path) -> None:
    """ONNX by onnxruntime and torch.export agree with the model, and a .safetensors file is read like a checkpoint."""
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(STORED / "mlp_vae.ckpt", run / "checkpoints" / "best.ckpt")
    (run / "metrics.json").write_text('{"test/nelbo": 12.345, "seed": 3, "environment": {"torch": "2.13.0"}}')
    (run / "overrides.yaml").write_text("- model=mlp_vae\n- data=digits\n")
    done = forked("scripts/export.py", f"run={run}", "format=onnx,torch.export,safetensors", f"out={out}")
    assert done.returncode == 0 and not done.stderr, done.stderr
    names = {f"{part}{suffix}" for part in ("encoder", "decoder", "sampler") for suffix in (".onnx", ".pt2")}
    assert {file.name for file in out.iterdir()} == {*names, "model.safetensors", "README.md"}
    card = (out / "README.md").read_text()
    for text in (
        "nelbo train model=mlp_vae data=digits",
        "| negative ELBO, nats per example | 12.35 |",
        "| seed | 3 |",
    ):
        assert text in card, card
    alone = (  # in a process without nelbo
        "import onnxruntime, numpy, sys\n"
        "encoder, decoder = (onnxruntime.InferenceSession(f'{sys.argv[1]}/{n}.onnx') for n in ('encoder', 'decoder'))\n"
        "(z,) = encoder.run(None, {'x': numpy.full((7, 1, 8, 8), 0.5, dtype=numpy.float32)})\n"
        "(x_mean,) = decoder.run(None, {'z': z})\n"
        "assert 'nelbo' not in sys.modules and 'torch' not in sys.modules\n"
        "print(x_mean.shape, float(x_mean.sum()))"
    )
    used = subprocess.run([sys.executable, "-c", alone, str(out)], capture_output=True, text=True, check=True)
    shape, total = used.stdout.rsplit(" ", 1)
    model = nelbo.load(run)
    with torch.no_grad():
        mean = model.decode(model.encode(torch.full((7, 1, 8, 8), 0.5)).mean).mean
    assert shape == "(7, 1, 8, 8)" and float(total) == pytest.approx(mean.sum().item(), rel=1e-5)
    loaded = nelbo.load(out / "model.safetensors")
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), loaded.parameters(), strict=True))
    opened = FinishedRun.open(out / "model.safetensors")
    assert opened.provenance["data"] == "digits" and opened.step == FinishedRun.open(run).step


def test_a_program_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(torch.nn.Module):
        """Noise that no program repeats."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    part = Part(Wrong(), ["x"], ["y"], lambda count: (torch.rand(count, 2),))
    monkeypatch.setattr(exporting, "parts_of", lambda model: ({"encoder": part}, []))
    run = FinishedRun.open(STORED / "mlp_vae.ckpt")
    with pytest.raises(NelboError, match=r"encoder\.pt2: differs from the model by .*, more than 0.0001"):
        export(run, ["torch.export"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    stored, full, bad = STORED / "mlp_vae.ckpt", tmp_path / "full", tmp_path / "bad.safetensors"
    full.mkdir()
    (full / "file").touch()
    bad.write_bytes(b"0" * 100)
    for arguments, message in (
        (
            (f"run={stored}", "format=pickle", "out=new"),
            "format=pickle: must be one of onnx, torch.export, safetensors",
        ),
        ((f"run={stored}", f"out={full}"), "exists already; give another name"),
        ((f"run={stored}",), "out"),
        ((f"run={stored}", "at.beta=1", "out=new"), "at.beta=1: "),
        ((f"run={tmp_path}/none", "out=new"), "no such checkpoint"),
        ((f"run={bad}", "out=new"), "not a .safetensors file of nelbo"),
    ):
        done = forked("scripts/export.py", *arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and message in done.stderr, done.stderr
    assert not Path("new").exists()
    with pytest.raises(CheckpointError, match="not a .safetensors file of nelbo"):
        nelbo.load(bad)
