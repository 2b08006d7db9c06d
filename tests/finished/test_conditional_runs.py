"""Runs of models that are conditioned on labels: training, measures, pictures, loading and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import nelbo
from nelbo.models import VAE
from tests.helpers.evaluations import SCRIPT, train_smoke
from tests.helpers.forks import Done, train_all

SMALL = ["model=mlp_vae", "model.encoder.hidden=[16,16]", "model.decoder.hidden=[16,16]", "threads=1"]
TRAINING = [*SMALL, "data=digits", "data.protocol=threshold", "likelihood=bernoulli", "model.latent_dim=2"]
ELBO = ["metrics=[elbo]", "limit=50"]
DRAW = "scripts/draw.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("conditional")
    runs = {
        "run": [*TRAINING, "conditioning=label", "model.conditioning.prior=true", "trainer.max_steps=40"],
        "plain": TRAINING,
    }
    train_smoke(home, runs)
    return home / "run"


@pytest.fixture(scope="module")
def evaluated(run: Path) -> dict[str, Done]:
    measures = "metrics=[elbo,nll,gaps,probe,active_units,information,fid,ais]"
    few = ["metrics.nll.num_samples=20", "metrics.gaps.num_steps=2", "metrics.gaps.num_samples=10"]
    calls = {
        "each": [f"run={run}", measures, "limit=50", *few, "metrics.fid.num_generated=60"],
        "three": [f"run={run}", *ELBO, "at.label=3"],
        "beyond": [f"run={run}", *ELBO, "at.label=10"],
        "both": [f"run=[{run},{run.parent / 'plain'}]", *ELBO, f"out={run.parent / 'both.json'}"],
    }
    logs = run.parent / "evaluations"
    logs.mkdir()
    return train_all(calls, logs, SCRIPT)


def test_measures_give_each_image_its_label(run: Path, evaluated: dict[str, Done]) -> None:
    assert evaluated["each"].returncode == 0, evaluated["each"].stderr
    results = [json.loads(file.read_text()) for file in run.glob("evaluation*.json")]
    each = next(result for result in results if "at" not in result)
    assert each["given"] == json.loads((run / "metrics.json").read_text())["given"] == "label"
    assert {"test/nelbo", "test/nll", "test/fid", "test/amortisation_gap", "test/probe_accuracy"} <= each.keys()
    assert "ais: needs label of each image, which this measure does not give; use at.label=..." in (
        evaluated["each"].stdout + evaluated["each"].stderr
    )
    output = evaluated["each"].stdout + evaluated["each"].stderr
    assert "information: needs label of each image" in output  # the prior is that of each label: there is no one p(z)
    model = nelbo.load(run)
    assert isinstance(model, VAE)
    x, labels = some_images()
    with torch.no_grad():
        torch.manual_seed(0)
        own = model.trace(x, 50, {"label": labels})
        torch.manual_seed(0)
        three = model.at(label=3).trace(x, 50)
    own_elbo, three_elbo = ((-trace.log_px + trace.kl).mean().item() for trace in (own, three))
    assert own_elbo == pytest.approx(each["test/nelbo"], abs=0.5)
    at_three = next(result for result in results if result.get("at") == {"label": 3})
    assert three_elbo == pytest.approx(at_three["test/nelbo"], abs=0.5)


def some_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return 50 evenly spread test images and their labels."""
    from nelbo.data import digits
    from nelbo.views.images import evenly_spaced

    test = digits().test
    chosen = evenly_spaced(len(test), 50)
    return (test.images[chosen] >= 128).float(), test.labels[chosen]


def test_results_given_labels_are_not_compared_with_others(evaluated: dict[str, Done]) -> None:
    both = evaluated["both"]
    assert both.returncode == 0, both.stderr
    assert "results of different given are not comparable" in both.stdout + both.stderr


def test_a_label_outside_its_classes_is_refused(evaluated: dict[str, Done]) -> None:
    assert evaluated["beyond"].returncode == 2
    (line,) = evaluated["beyond"].stderr.strip().splitlines()
    assert "at.label=10: must be at most 9" in line


def test_pictures_take_labels_or_ask_for_one(run: Path) -> None:
    of = f"run={run}"
    calls = {
        "by_class": ["by_class", of, "columns=3", f"out={run.parent / 'by_class.npz'}"],
        "every_class": ["every_class", of, "rows=4", f"out={run.parent / 'every.npz'}"],
        "samples": ["samples", of, "rows=10", "columns=2", f"out={run.parent / 'samples.npz'}"],
        "reconstructions": ["reconstructions", of, "rows=1", "columns=4"],
        "posterior": ["posterior", of, "limit=60"],
        "kl": ["kl", of, "limit=60"],
        "traversal": ["traversal", of, "at.label=4", "columns=3"],
        "without": ["traversal", of],
        "plain": ["by_class", f"run={run.parent / 'plain'}"],
    }
    logs = run.parent / "pictures"
    logs.mkdir()
    done = train_all(calls, logs, DRAW)
    for name in calls.keys() - {"without", "plain"}:
        assert done[name].returncode == 0, done[name].stderr
    assert (run / "pictures" / "traversal-label=4.png").is_file()
    model = nelbo.load(run)
    drawn = np.load(run.parent / "by_class.npz")
    assert drawn["x"].shape == (10, 3, 1, 8, 8) and drawn["classes"].tolist() == list(range(10))
    assert not np.allclose(drawn["x"][0], drawn["x"][1])
    every = np.load(run.parent / "every.npz")
    x, labels = torch.from_numpy(every["x"][:, 0]), torch.from_numpy(every["labels"])
    own = torch.from_numpy(every["x"])[torch.arange(4), 1 + labels]  # with its own label, it is the reconstruction
    with torch.no_grad():
        mode = model.encode(x, {"label": labels}).mean
        torch.testing.assert_close(model.decode(mode, context={"label": labels}).mean, own, atol=1e-5, rtol=1e-4)
    samples = np.load(run.parent / "samples.npz")
    rows = torch.arange(20) // 2
    with torch.no_grad():
        means = model.decode(torch.from_numpy(samples["z"]), context={"label": rows}).mean
    np.testing.assert_allclose(samples["x"], means.numpy(), atol=1e-5)
    for name, message in (
        ("without", "at.label=null: is missing: this picture is of one condition, such as at.label=3"),
        ("plain", "is not conditioned on a class that is not bound"),
    ):
        assert done[name].returncode == 2
        assert message in done[name].stderr and len(done[name].stderr.strip().splitlines()) == 1


def test_data_without_what_is_given_is_refused(tmp_path: Path) -> None:
    images = np.zeros((60, 1, 8, 8), dtype=np.uint8)
    images[::2] = 255
    np.savez(tmp_path / "unlabelled.npz", images=images)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(60, dtype=np.int64))
    arrays = ["data=arrays", f"data.path={tmp_path / 'unlabelled.npz'}", "likelihood=bernoulli", *SMALL]
    calls = {
        "unlabelled": [*arrays, "conditioning=label"],
        "one_class": [*arrays[:1], f"data.path={tmp_path / 'one.npz'}", *arrays[2:], "conditioning=label"],
        "factors": [*TRAINING, "conditioning=factors"],
        "names": [*TRAINING, "conditioning=label", "model.conditioning.names=[colour]"],
        "names_in_names": [*TRAINING, "conditioning=label", "model.conditioning.names=[[label]]"],
        "kinds": [*TRAINING, "conditioning=label", "model.conditioning.kinds={label:5}"],
        "nested": [*TRAINING, "conditioning=label", "nesting=uniform"],
        "layers": [*TRAINING, "conditioning=label", "model.conditioning.layers=gates"],
        "linear": ["model=linear_vae", "data=digits", "conditioning=label"],
    }
    done = train_all({name: [*call, "trainer=smoke"] for name, call in calls.items()}, tmp_path)
    for name, message in {
        "unlabelled": "model.conditioning.names=label: is unknown of 60 of the 60 images",
        "one_class": "model.conditioning.names=label: is 0 for all images",
        "factors": "model.conditioning.names=factors: is not known of the images of digits, which have label",
        "names": "model.conditioning.names=colour: is not known of the images of digits, which have label",
        "names_in_names": "model.conditioning.names=[[label]]: must be a list of different names",
        "kinds": "model.conditioning.kinds={label:5}: does not fit digits, which has {'label': 10}; leave it out",
        "nested": "does not go with rates=... or nesting=...",
        "layers": "model.conditioning.layers=gates: must be one of modulation, concatenation",
        "linear": "has no hidden layer to modulate; use model.conditioning.layers=concatenation",
    }.items():
        assert done[name].returncode == 2, name
        *notes, line = done[name].stderr.strip().splitlines()
        assert message in line and not any("Traceback" in note for note in notes)
