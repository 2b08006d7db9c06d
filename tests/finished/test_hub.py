"""Models on the Hugging Face Hub, of which a local server stands in: uploaded, loaded, downloaded, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.checkpoints.hub import Reference, is_reference
from nelbo.errors import ConfigError, NelboError
from nelbo.finished.run import FinishedRun
from tests.helpers.forks import ROOT, forked
from tests.helpers.hub import TOKEN, Hub, served

pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors")

RUN = ROOT / "tests" / "checkpoints" / "format-2" / "mlp_vae.ckpt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with nothing in it, and a cache and a token for it; the constants of the library are set before."""
    from huggingface_hub import constants

    with served() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


def test_a_model_is_uploaded_and_loaded_again(hub: Hub, tmp_path: Path) -> None:
    done = forked("scripts/push.py", f"run={RUN}", "repo=someone/mlp")
    assert done.returncode == 0, done.stderr
    files = hub.repos["someone/mlp"]
    assert set(files) == {"README.md", "model.safetensors"} and hub.private["someone/mlp"] == "private"
    assert f"{hub.url}/someone/mlp/commit/" in done.stdout
    card = files["README.md"].decode()
    assert 'nelbo.load("hf://someone/mlp")' in card and "library_name: nelbo" in card and str(tmp_path) not in card
    here, there = nelbo.load(RUN), nelbo.load(f"hf://someone/mlp@{hub.commit}")
    assert all(torch.equal(*pair) for pair in zip(here.parameters(), there.parameters(), strict=True))
    assert [line for line in hub.asked if line.startswith("GET") and "resolve" in line] == [
        f"GET /someone/mlp/resolve/{hub.commit}/model.safetensors"
    ], "nothing but the weights is downloaded"
    out = tmp_path / "got"
    done = forked("scripts/pull.py", "repo=someone/mlp", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in out.iterdir()} == {"README.md", "model.safetensors"}
    assert FinishedRun.open(out / "model.safetensors").provenance["data"] == "digits"
    again = ("format=safetensors,torch.export", "private=false")
    done = forked("scripts/push.py", f"run={RUN}", "repo=someone/mlp", *again)
    assert done.returncode == 0, done.stderr
    assert {"encoder.pt2", "decoder.pt2", "sampler.pt2", "model.safetensors"} < set(hub.repos["someone/mlp"])


def test_what_the_hub_lacks_or_refuses_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.repos["someone/empty"] = {}
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    out = tmp_path / "out"
    for script, arguments, token, message in (
        ("pull", ("repo=someone/none",), TOKEN, "hf://someone/none: no such repository, or it is not yours to read"),
        ("pull", ("repo=someone/empty@v9",), TOKEN, "hf://someone/empty@v9: no such revision"),
        ("pull", ("repo=someone/empty",), TOKEN, "hf://someone/empty: has no model.safetensors; nelbo push writes it"),
        ("pull", ("repo=https://example.org/x",), TOKEN, "must be OWNER/NAME"),
        ("push", (f"run={RUN}", "repo=mlp"), TOKEN, "repo=mlp: must be OWNER/NAME"),
        ("push", (f"run={RUN}", "repo=someone/new"), "wrong", "log in with hf auth login, or set HF_TOKEN"),
        ("push", (f"run={RUN}", "repo=someone/new", "private=perhaps"), TOKEN, "must be true or false"),
        ("push", (f"run={RUN}", "repo=someone/new", "format=pickle"), TOKEN, "format=pickle: must be one of onnx"),
    ):
        more = (f"out={out}",) if script == "pull" else ()
        done = forked(f"scripts/{script}.py", *arguments, *more, HF_TOKEN=token)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and message in done.stderr, done.stderr
    assert hub.repos == {"someone/empty": {}} and not out.exists() and not list(tmp_path.glob(".out*"))
    done = forked("scripts/pull.py", "repo=someone/empty", f"out={full}")
    assert done.returncode == 2 and "exists already" in done.stderr, done.stderr
    with pytest.raises(NelboError, match="read from local files only; nelbo pull repo=OWNER/NAME out=FOLDER gets it"):
        FinishedRun.open("hf://someone/none")
    with pytest.raises(NelboError, match="hf://someone/none: no such repository"):
        nelbo.load("hf://someone/none")


def test_only_the_typed_form_is_a_reference() -> None:
    assert Reference.read("a/b@refs/pr/1") == Reference("a/b", "refs/pr/1") == Reference.read("hf://a/b@refs/pr/1")
    assert str(Reference("a/b")) == "hf://a/b" and str(Reference("a/b", "v1")) == "hf://a/b@v1"
    assert is_reference("hf://a/b") and not is_reference("a/b") and not is_reference(Path("hf://a/b"))
    for wrong in ("a", "a/b/c", "../b", "a/..", "a/b@", "https://a/b", "a/b c", ""):
        with pytest.raises(ConfigError, match="must be OWNER/NAME"):
            Reference.read(wrong)
