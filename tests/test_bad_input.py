"""Bad input: one line that names the key, the value and the mend, exit status 2, no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nelbo.data.fetch import cache_directory
from nelbo.data.sets.mnist import MNIST_FILES
from tests.conftest import Train, python
from tests.forks import Done, train_all

CASES = {
    "model=conv_vea": "model=conv_vea: there is no such option; choose from autoencoder, conv_vae, linear_vae, mlp_vae",
    "data=imagenet": "data=imagenet: there is no such option; choose from arrays, binarized_mnist, cifar10, "
    "cifar100, digits, dsprites, fashion_mnist, huggingface, image_folder, mnist, omniglot, svhn",
    "model.latent_dim=0": "model.latent_dim=0: must be a whole number of at least 1",
    "model.latent_dim=2.5": "model.latent_dim=2.5: must be a whole number",
    "objective.beta=abc": "objective.beta=abc: must be a finite number of at least 0",
    "objective.beta=-1": "objective.beta=-1: must be a finite number",
    "objective.beta=nan": "objective.beta=nan: must be a finite number",
    "data.batch_size=0": "data.batch_size=0: must be a whole number of at least 1",
    "data.validation_size=1500": "data.validation_size=1500: must leave some of the 1500 training images",
    "data.protocol=grey": "data.protocol=grey: must be one of raw, dequantized, dynamic, fixed, threshold, static",
    "data.protocol=static": "data.protocol=static: digits is not published in binary form",
    "data.augment.flip=maybe": "data.augment.flip=maybe: must be true or false",
    "data.augment.pad_crop=8": "data.augment.pad_crop=8: must be less than the image's 8 pixels",
    "data.shape=[3,8,8]": "data.shape=[3, 8, 8]: digits has images of shape [1, 8, 8]",
    "+data.root=here": "data.root=here: is not an option of digits, which has: none",
    "data=image_folder": "data.root: has no default; type data.root=...",
    "data=arrays data.path=none.npy": "data.path=none.npy: is not a file",
    "likelihood=discretized_logistic data.levels=18": "likelihood=discretized_logistic: digits (raw) has pixels "
    "outside its support: give it stored pixels",
    "data.protocol=dequantized": "data.protocol=dequantized: is for 256 levels; digits has 17",
    "data.protocol=dequantized data.levels=256 likelihood=discretized_logistic": "likelihood=discretized_logistic: "
    "digits (dequantized) has pixels outside",
    "optimizer.lr=-1": "optimizer.lr=-1: must be a finite number above 0",
    "trainer.max_epochs=0": "trainer.max_epochs=0: must be a whole number of at least 1",
    "objective.betta=1": "objective.betta=1: there is no such key",
    "latent_dim=3": "latent_dim=3: there is no such key; did you mean model.latent_dim?",
    "+optimizer.momentun=0.9": "optimizer.momentun=0.9: is not an option of Adam",
    "likelihood=bernoulli": "likelihood=bernoulli: digits (raw) has pixels outside its support: binarise the pixels "
    "(data=binarized_mnist) or use a density (likelihood=gaussian or continuous_bernoulli)",
    "posterior=deterministic": "objective=elbo: posterior=deterministic has no log q(z|x)",
    "posterior=deterministic objective=reconstruction prior=mixture": "objective=reconstruction: has no KL, so nothing "
    "would train the prior: use prior=standard_normal, or objective=elbo",
    "posterior=flow prior=vamp": "prior=vamp: is a mixture of q(z|u), whose density",
    "posterior=flow model.posterior.kind=planar": "model.posterior.kind=planar: must be one of autoregressive",
    "prior=mixture model.prior.components=0": "model.prior.components=0: must be a whole number of at least 1",
    "likelihood=gaussian_fixed model.likelihood.sigma=1e-5": "model.likelihood.sigma=1e-05: must be a finite number of "
    "at least 0.00113206, or a schedule such as {linear:{steps:2000,start:1,end:0.1}}",
    "objective.beta={linear:{step:5}}": "objective.beta.linear.step=5: is not an option of linear, which has: steps, "
    "start, end",
    "experiment=warm_up data=digits objective.beta={cosine:{steps:9}}": "objective.beta={cosine:{steps:9}}: there is "
    "another schedule already; replace it with ~objective.beta '+objective.beta={cosine:{steps:9}}'",
    "model=autoencoder objective.beta=4": "objective.beta=4: there is no such key; python train.py --cfg job lists",
    "objective.beta={linnear:{steps:5}}": "objective.beta={'linnear': {'steps': 5}}: must be one schedule with its "
    "options, such as {linear:{steps:2000}}; there are linear, cosine, cyclical",
    "model.latent_dim=2,8": "model.latent_dim=2,8: several values are a sweep, which needs -m",
    "model.latent_dim=${nothing}": "model.latent_dim: Interpolation key 'nothing' not found",
    "seed=4294967296": "seed=4294967296: must be at most 4294967295",
    "trainer.precision=16-mixed": "trainer.precision=16-mixed: must be one of 32-true, bf16-mixed",
    "nonsense": "nonsense: not an override; write key=value",
    "optimizer._target_=os.system": "optimizer._target_=os.system: is not among the packages",
    "model.encoder.activation=Relu": "model.encoder.activation=Relu: must be an activation class of torch.nn",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What each of `CASES` ended with."""
    folder = tmp_path_factory.mktemp("bad")
    shared = ["model=mlp_vae", "data=digits", "trainer=smoke", f"hydra.run.dir={folder / 'run'}"]
    ended = train_all({str(index): [*shared, *case.split()] for index, case in enumerate(CASES)}, folder)
    return dict(zip(CASES, ended.values(), strict=True))


@pytest.mark.parametrize("override", CASES)
def test_bad_overrides(done: dict[str, Done], override: str) -> None:
    said = done[override]
    assert said.returncode == 2, said.stderr
    assert said.stderr.startswith(f"error: {CASES[override]}"), said.stderr
    assert len(said.stderr.splitlines()) == 1 and said.stdout == ""


@pytest.mark.parametrize("override", ["model.latent_dim=0", "posterior=deterministic"])
def test_a_process_of_its_own_says_the_same(train: Train, done: dict[str, Done], override: str) -> None:
    alone = train("model=mlp_vae", "data=digits", "trainer=smoke", override)
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, "", done[override].stderr)


def test_a_missing_gpu(train: Train) -> None:
    done = train("model=mlp_vae", "data=digits", "trainer=gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: trainer: No supported gpu"), (
        done.stderr
    )


def test_a_bad_job_of_a_sweep_does_not_stop_the_others(tmp_path: Path) -> None:
    sweep = ["-m", "model.latent_dim=2,0,3", "trainer=smoke", "model=mlp_vae", "data=digits", "callbacks=none"]
    done = python("train.py", *sweep, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2 and "error: model.latent_dim=0" in done.stderr and "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("*/metrics.json"))) == 2


def test_no_network_and_no_cache(train: Train, tmp_path: Path) -> None:
    nowhere = {"NELBO_DATA": str(tmp_path / "cache"), "PATH": "", "https_proxy": "http://127.0.0.1:9"}
    done = train("model=mlp_vae", "data=mnist", "trainer=smoke", **nowhere)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "train-images-idx3-ubyte: not in the cache and not to be had; tried https://" in done.stderr
    assert "by hand" in done.stderr


def test_a_corrupt_data_file(train: Train, tmp_path: Path) -> None:
    from nelbo.data import mnist

    mnist()
    shutil.copytree(cache_directory() / "mnist", tmp_path / "cache" / "mnist")
    damaged = tmp_path / "cache" / "mnist" / MNIST_FILES[0].name
    content = bytearray(damaged.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    done = train("model=mlp_vae", "data=mnist", "trainer=smoke", NELBO_DATA=str(tmp_path / "cache"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"error: {damaged}: corrupt data file, its sha256 is" in done.stderr
