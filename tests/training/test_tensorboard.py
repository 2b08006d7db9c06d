"""The endpoints of a TensorBoard server on 127.0.0.1, and its pages in headless Chromium."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nelbo.training.callbacks.latents import thumbnails

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = os.environ.get("NELBO_SCREENSHOTS")  # a folder in which the screenshots are kept, for the README


@pytest.fixture(scope="module")
def board(smoke_run: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logdir = os.environ.get("NELBO_LOGDIR", str(smoke_run))
    command = ["-m", "tensorboard.main", "--logdir", logdir, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--load_fast", "false", "--reload_interval", "1"]
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                if get(address, "data/runs"):
                    break
            except OSError:
                assert server.poll() is None, "TensorBoard ended"
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def get(address: str, path: str, **query: str) -> Any:
    url = f"{address}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    with urllib.request.urlopen(url, timeout=30) as response:
        content = response.read()
        return json.loads(content) if "json" in response.headers["Content-Type"] else content


def test_scalars(board: str) -> None:
    (tags,) = get(board, "data/plugin/scalars/tags").values()
    names = {"nelbo", "reconstruction", "kl", "active_units"}
    assert {f"{split}/{name}" for split in ("train", "val", "test") for name in names} <= set(tags)
    train = {"beta", "learning_rate", "gradient_norm", "images_per_second"}
    assert {f"train/{name}" for name in train} <= set(tags)


def test_a_run_has_one_event_directory(board: str) -> None:
    assert len(get(board, "data/runs")) == 1


def test_there_is_no_staircase_of_epochs(board: str) -> None:
    (tags,) = get(board, "data/plugin/scalars/tags").values()
    assert not [tag for tag in tags if "epoch" in tag]


def test_pictures_can_be_decoded(board: str) -> None:
    (run,) = get(board, "data/runs")
    (tags,) = get(board, "data/plugin/images/tags").values()
    names = ("reconstructions", "samples", "traversals", "manifold", "aggregate_posterior", "kl_per_unit")
    assert set(tags) == {f"pictures/{name}" for name in names}
    for tag, samples in tags.items():
        assert len(samples["description"]) > len("<p></p>")
        (entry, *_) = get(board, "data/plugin/images/images", run=run, tag=tag, sample="0")
        blob = get(board, f"data/plugin/images/individualImage?{entry['query']}")
        picture = Image.open(io.BytesIO(blob))
        assert picture.width >= 350 and picture.height >= 100 and len(set(picture.convert("L").tobytes())) > 20


def test_charts_are_drawn_at_the_size_at_which_they_are_shown(board: str) -> None:
    """TensorBoard leaves out pixels of a picture that is wider than 350, in which text could not be read."""
    (run,) = get(board, "data/runs")
    for name in ("aggregate_posterior", "kl_per_unit"):
        (entry, *_) = get(board, "data/plugin/images/images", run=run, tag=f"pictures/{name}", sample="0")
        blob = get(board, f"data/plugin/images/individualImage?{entry['query']}")
        assert Image.open(io.BytesIO(blob)).width == 350, name


def test_hparams_of_the_runs_are_found_with_what_differs_first(board: str) -> None:
    request = urllib.request.Request(
        f"{board}/data/plugin/hparams/experiment",
        data=json.dumps({"experimentName": ""}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        experiment = json.loads(response.read())
    assert {"model", "model.latent_dim", "seed"} <= {info["name"] for info in experiment["hparamInfos"]}
    assert not any(info.get("differs") for info in experiment["hparamInfos"])  # there is one run
    assert {"test/nelbo", "val/nelbo"} <= {info["name"]["tag"] for info in experiment["metricInfos"]}


def test_hparams_hold_the_overrides_and_the_test_metrics(board: str) -> None:
    query = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
        "colParams": [{"hparam": "model.latent_dim"}, {"metric": {"group": "", "tag": "test/nelbo"}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    request = urllib.request.Request(
        f"{board}/data/plugin/hparams/session_groups",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        (group,) = json.loads(response.read())["sessionGroups"]
    assert group["hparams"]["model.latent_dim"] == 2 and group["hparams"]["model"] == "mlp_vae"
    values = {entry["name"]["tag"]: entry["value"] for entry in group["metricValues"]}
    assert isinstance(values["test/nelbo"], float) and values["test/nelbo"] != 0


def test_custom_scalars_put_negative_elbo_kl_and_reconstruction_side_by_side(board: str) -> None:
    layout = get(board, "data/plugin/custom_scalars/layout")
    (category,) = layout["category"]
    tags = [tag for chart in category["chart"] for tag in chart["multiline"]["tag"]]
    assert {"val/nelbo", "val/kl", "val/reconstruction"} <= set(tags)


def test_the_projector_has_codes_labels_and_sprites(board: str) -> None:
    (run,) = get(board, "data/plugin/projector/runs")
    (embedding,) = get(board, "data/plugin/projector/info", run=run)["embeddings"]
    assert embedding["tensorShape"][1] == 2 and embedding["metadataPath"] and embedding["sprite"]["imagePath"]
    sprite = get(board, "data/plugin/projector/sprite_image", run=run, name=embedding["tensorName"])
    assert Image.open(io.BytesIO(sprite)).size[0] > 8


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian's package `chromium`)")
@pytest.mark.parametrize("page", ["timeseries", "custom_scalars", "hparams", "images", "projector"])
def test_pages_render_in_a_browser(board: str, tmp_path: Path, page: str) -> None:
    assert CHROMIUM is not None
    target = Path(SCREENSHOTS or tmp_path) / f"tensorboard_{page}.png"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}/profile", "--window-size=1400,1000", "--virtual-time-budget=20000",
        f"--screenshot={target}", f"{board}/#{page}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    picture = Image.open(target).convert("RGB")
    assert picture.size == (1400, 1000)
    assert len(picture.resize((350, 250)).getcolors(100_000)) > 200  # a page that failed to load has few colours


def test_pictures_of_any_shape_fit_the_projector() -> None:
    """TensorBoard accepts only one picture of equal squares."""
    for shape, side in (((100, 3, 12, 10), 12), ((3, 1, 200, 90), 64), ((2, 3, 28, 28), 28)):
        squares = thumbnails(torch.rand(shape))
        assert squares.shape == (*shape[:2], side, side)
