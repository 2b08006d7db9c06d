"""Masks of pixels in a file of arrays, and runs on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nelbo.data import Arrays, array_file
from nelbo.errors import ConfigError, DataError
from tests.helpers.forks import Train, train_all

RANDOM = np.random.default_rng(0)
GREY = load_digits().images[:40].astype(np.float32) / 16
KNOWN = RANDOM.random(GREY.shape) < 0.7


def read(path: Path, **arrays: np.ndarray) -> Arrays:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return array_file(str(path), 0.25, 0)


def all_of(arrays: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images of a file, and their masks."""
    images = arrays.train.images
    assert isinstance(images, torch.Tensor)
    return images, arrays.train.columns["observed"]


def test_unknown_pixels_become_zero_whatever_they_hold(tmp_path: Path) -> None:
    colours = np.stack([GREY, 1 - GREY, GREY / 3], axis=1)
    of_colours = np.stack([KNOWN, ~KNOWN, KNOWN | (GREY > 0)], axis=1)
    cases = [
        (np.where(KNOWN, GREY, np.nan), KNOWN, GREY[:, None], KNOWN[:, None]),
        (GREY.reshape(40, 64), KNOWN.reshape(40, 64).astype(int), GREY.reshape(40, 64), KNOWN.reshape(40, 64)),
        (colours, of_colours, colours, of_colours),
        (colours.transpose(0, 2, 3, 1), of_colours.transpose(0, 2, 3, 1), colours, of_colours),
        (colours, KNOWN, colours, np.repeat(KNOWN[:, None], 3, axis=1)),
        (colours.transpose(0, 2, 3, 1), KNOWN, colours, np.repeat(KNOWN[:, None], 3, axis=1)),
    ]
    for number, (images, mask, x, known) in enumerate(cases):
        found, observed = all_of(read(tmp_path / f"{number}.npz", images=images, observed=mask))
        assert observed.dtype == torch.bool and np.array_equal(observed, known), number
        np.testing.assert_array_equal(found, np.where(known, x, 0).astype(np.float32))
    eight = (GREY * 16).astype(np.uint8) * 15
    found, _ = all_of(read(tmp_path / "u.npz", images=eight, observed=KNOWN))
    assert found.dtype == torch.uint8 and np.array_equal(found[:, 0], np.where(KNOWN, eight, 0))


def test_every_split_has_its_mask(tmp_path: Path) -> None:
    parts = {"train_images": GREY[:20], "val_images": GREY[20:30], "test_images": GREY[30:]}
    masks = {"train_observed": KNOWN[:20], "observed_val": KNOWN[20:30], "test_observed": KNOWN[30:]}
    arrays = read(tmp_path / "x.npz", **parts, **masks)
    assert np.array_equal(arrays.train.columns["observed"][:, 0], KNOWN[:30]) and arrays.validation == 10
    assert np.array_equal(arrays.test.columns["observed"][:, 0], KNOWN[30:])
    whole = read(tmp_path / "y.npz", **parts, **masks)
    masks["test_observed"] = ~KNOWN[30:]
    assert arrays.sha256() == whole.sha256() != read(tmp_path / "z.npz", **parts, **masks).sha256()
    del masks["observed_val"]
    with pytest.raises(DataError, match="has the mask train_observed, so it needs validation_observed too"):
        read(tmp_path / "x.npz", **parts, **masks)


def test_masks_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    wrong = {
        r"observed has shape \(39, 8, 8\) for images of shape \(40, 8, 8\)": KNOWN[:39],
        "observed holds float64; needs true where": KNOWN.astype(float),
        "observed holds int64; needs true where": KNOWN * 2,
        "observed is false everywhere": KNOWN & False,
    }
    for message, mask in wrong.items():
        with pytest.raises(DataError, match=message):
            read(tmp_path / "x.npz", images=GREY, observed=mask)
    np.save(tmp_path / "x.npy", GREY)
    np.save(tmp_path / "x_observed.npy", KNOWN)
    with pytest.raises(DataError, match=r"the mask x_observed.npy is beside it; save both in one .npz"):
        array_file(str(tmp_path / "x.npy"), 0.25, 0)
    with pytest.raises(ConfigError, match="columns=observed: is no name of a column"):
        array_file(str(tmp_path / "x.npz"), 0.25, 0, columns=["observed"])


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("masked")
    images, known = load_digits().images, RANDOM.random((1797, 8, 8)) < 0.7
    pixels = np.round(images * (255 / 16)).astype(np.uint8)
    np.savez(home / "x.npz", images=pixels, observed=known, labels=load_digits().target)
    np.savez(home / "plain.npz", images=pixels)
    return home


def test_a_run_of_images_with_masks(masked: Path, train: Train, tmp_path: Path) -> None:
    """Bits per dimension of whole images, and measures that compare these, are left out."""
    done = train("data=arrays", f"data.path={masked / 'x.npz'}", "model=conv_vae", "inputs=masked", "trainer=smoke")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert np.isfinite(metrics["test/nelbo"]) and "test/bits_per_dim" not in metrics
    scores = [f"run={run}", "metrics=[elbo,nll,fid,neighbours]", "metrics.nll.num_samples=20", "limit=40", "device=cpu"]
    (evaluated,) = train_all({"e": scores}, tmp_path, "scripts/evaluate.py").values()
    assert evaluated.returncode == 0, evaluated.stderr
    output = evaluated.stdout + evaluated.stderr
    for name in ("fid", "neighbours"):
        assert f"{name}: compares whole images, and of these some pixels are unknown" in output
    values = json.loads((run / "evaluation.json").read_text())
    assert values["test/nll"] < values["test/nelbo"] < 0.8 * 64 * np.log(256)
    assert not [name for name in values if "bits_per_dim" in name]


def test_runs_that_do_not_suit_masks_are_refused(masked: Path, train: Train) -> None:
    arrays = ["data=arrays", "model=mlp_vae", "trainer=smoke"]
    cases = {
        "inputs=none: takes all pixels for known, and arrays has a mask of them; use inputs=masked": ["x.npz"],
        "inputs=masked: needs a mask of observed pixels, which arrays does not have": ["plain.npz", "inputs=masked"],
        "data.augment.flip=true: does not move masks": ["x.npz", "inputs=masked", "data.augment.flip=true"],
    }
    for message, (name, *options) in cases.items():
        done = train(*arrays, f"data.path={masked / name}", *options)
        assert done.returncode == 2 and message in done.stderr, done.stderr
