"""Bad input: one line that names the key, the value and the hint, exit status 2, no traceback."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.checks import CHECKS, check
from nelbo.config.keys import select
from nelbo.config.trainer_checks import LOGGER_OPTIONS
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.mnist import MNIST_FILES
from nelbo.errors import ConfigError
from tests.helpers.downloads import needs
from tests.helpers.forks import ROOT, Done, Train, python, train_all

CASES = {
    "model=conv_vea": "model=conv_vea: there is no such option; did you mean conv_vae? choose from autoencoder, "
    "conv_vae, linear_vae, mlp_vae",
    "data=imagenet": "data=imagenet: there is no such option; choose from arrays, binarized_mnist, cifar10, "
    "cifar100, digits, dsprites, fashion_mnist, huggingface, image_folder, mnist, omniglot, svhn",
    "model.latent_dim=0": "model.latent_dim=0: must be a whole number of at least 1",
    "model.latent_dim=2.5": "model.latent_dim=2.5: must be a whole number",
    "+callbacks.find={_target_:pytorch_lightning.callbacks.LearningRateFinder}": "callbacks.find._target_="
    "pytorch_lightning.callbacks.LearningRateFinder: changes the rate behind the config's back",
    "guard=null": "guard=null: a run needs it, for it ends training that is not finite; guard.skip_above=null skips",
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
    "objective.betta=1": "objective.betta=1: there is no such key; did you mean objective.beta?",
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
    "experiment=warm_up data=digits objective.beta={cosine:{steps:9}}": "objective.beta={cosine:{steps:9}}: is merged "
    "into what stands there, which has no cosine; to replace it: '~objective.beta' "
    "'+objective.beta={cosine:{steps:9}}'",
    "model=autoencoder objective.beta=4": "objective.beta=4: there is no such key; objective.beta is a key of "
    "objective=beta_tc, objective=dip, objective=elbo",
    "objective.beta={linnear:{steps:5}}": "objective.beta={linnear:{steps:5}}: must be one schedule with its "
    "options, such as {linear:{steps:2000}}; there are linear, cosine, cyclical",
    "model.latent_dim=2,8": "model.latent_dim=2,8: several values are a sweep, which needs -m",
    "model.latent_dim=${nothing}": "model.latent_dim: Interpolation key 'nothing' not found",
    "seed=4294967296": "seed=4294967296: must be at most 4294967295",
    "trainer.precision=16-mixed": "trainer.precision=16-mixed: must be one of 32-true, bf16-mixed",
    "trainer.precision=16-mixed trainer.strategy=ddp": "trainer.precision=16-mixed: must be one of",
    "trainer.max_epochs=2.5": "trainer.max_epochs=2.5: must be a whole number of at least 1",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches=0: must be a number of batches of at least 1, "
    "or a share",
    "trainer.limit_train_batches=1.5": "trainer.limit_train_batches=1.5: must be a number of batches",
    "trainer.limit_val_batches=-3": "trainer.limit_val_batches=-3: must be a number of batches of at least 0",
    "trainer.limit_val_batches=null": "trainer.limit_val_batches=null: must be a number of batches of at least 0",
    "trainer.limit_test_batches=true": "trainer.limit_test_batches=true: must be a number of batches of at least 1",
    "trainer.accelerator=tpuu": "trainer.accelerator=tpuu: must be one of auto, cpu, gpu",
    "trainer.devices=0": "trainer.devices=0: must be a whole number of at least 1",
    "trainer.devices=[]": "trainer.devices=[]: must be a whole number",
    "trainer.devices=2 data.batch_size=1": "data.batch_size=1: 2 processes need batches of at least 2",
    "trainer.strategy=dpp": "trainer.strategy=dpp: must be one of auto, ddp",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1: must be a finite number of at least 0",
    "trainer.detect_anomaly=maybe": "trainer.detect_anomaly=maybe: must be true or false",
    "trainer.use_distributed_sampler=true": "trainer.use_distributed_sampler=true: must be false",
    "model=conv_vae model.encoder.channels=[]": "model.encoder.channels=[]: must hold at least 1 of them",
    "trainer.profiler=simpel": "trainer.profiler=simpel: must be one of simple, advanced, pytorch",
    "trainer.max_epoch=3": "trainer.max_epoch=3: there is no such key; did you mean trainer.max_epochs?",
    "+trainer.max_epoch=3": "trainer.max_epoch=3: is not an option of Trainer",
    "trainer.fast_dev_run=true": "trainer.fast_dev_run=true: it writes no checkpoint to test: trainer=smoke",
    "+trainer.barebones=true": "trainer.barebones=true: it writes no checkpoints and no metrics",
    "+trainer.accumulate_grad_batches=2": "+trainer.accumulate_grad_batches=2: trainer.accumulate_grad_batches is",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches=0: must be a whole number of at least 1",
    "trainer.max_time=12h": "trainer.max_time=12h: must be 'DD:HH:MM:SS' or units such as {hours:2,minutes:30}",
    "trainer.max_time={hours:-1}": "trainer.max_time={hours:-1}: must be 'DD:HH:MM:SS'",
    "trainer.max_epochs=-1": "trainer.max_epochs=-1: needs trainer.max_steps=..., which says when training ends",
    "trainer.max_steps=0": "trainer.max_steps=0: must be a whole number of at least 1",
    "trainer.max_steps=5 trainer.min_steps=6": "trainer.min_steps=6: is more than trainer.max_steps=5",
    "trainer.min_epochs=2": "trainer.min_epochs=2: is more than trainer.max_epochs=1",
    "trainer.max_epochs=9 trainer.max_steps=17 trainer.min_epochs=4": "trainer.min_epochs=4: training ends after 17 "
    "steps, 3 whole epochs",
    "trainer.check_val_every_n_epoch=null": "trainer.check_val_every_n_epoch=null: validates by batches alone: say "
    "after how many, trainer.val_check_interval=1000",
    "trainer.val_check_interval=3 trainer.accumulate_grad_batches=2": "trainer.val_check_interval=3: validates after 3 "
    "batches, within an update of 2 batches; use a multiple of 2",
    "trainer.deterministic=maybe": "trainer.deterministic=maybe: must be true, false or warn",
    "budget.min_steps=-1": "budget.min_steps=-1: must be a whole number of at least 0",
    "+trainer.logger=true": "trainer.logger=true: a run's logger is a group of its own",
    "trainer._partial_=false": "trainer._partial_=false: must be true",
    "~optimizer": "~optimizer: a run needs one: choose with optimizer=...",
    "~callbacks": "callbacks=null: must be a mapping; callbacks=none leaves it out",
    "~resume_changes": "resume_changes=: a run needs it",
    "~trainer.max_epochs": "trainer.max_epochs=: a run needs it",
    "trainer.val_check_interval=100000": "trainer.val_check_interval=100000: an epoch has 5 batches; ",
    "trainer.num_nodes=2": "trainer.num_nodes=2: processes on other nodes are not started automatically; ",
    "trainer.val_check_interval=0": "trainer.val_check_interval=0: must be a number of batches",
    "trainer.accelerator=tpu": "trainer.accelerator=tpu: is not available on this machine",
    "+optimizer.foreach=true": "optimizer.foreach=true: is another way to do what optimizer.fused does",
    "optimizer.betas=[0.9,1]": "optimizer.betas[1]=1: must be below 1",
    "optimizer.betas=0.9": "optimizer.betas=0.9: must be two numbers, such as [0.9,0.999]",
    "optimizer.eps=0": "optimizer.eps=0: must be a finite number above 0",
    "optimizer.fused=3": "optimizer.fused=3: must be true or false",
    "optimizer=adamw optimizer.weight_decay=-1": "optimizer.weight_decay=-1: must be a finite number of at least 0",
    "optimizer._target_=torch.optim.swa_utils.update_bn": "optimizer._target_=torch.optim.swa_utils.update_bn: is not "
    "a class",
    "+optimizer._args_=[3]": "optimizer._args_=list: only _target_ and _partial_ may begin with an underscore",
    "budget.epochs=-5": "budget.epochs=-5: must be a whole number of at least 1",
    "budget.lr=much": "budget.lr=much: must be a finite number above 0",
    "threads=0": "threads=0: must be a whole number of at least 1",
    "seed=null": "seed=null: must be a whole number of at least 0",
    "trial=3": "trial=3: must be null, or what a search gives: metric, number, pruner, study",
    "callbacks.units=5": "callbacks.units=5: must be a mapping with a _target_, or null",
    "logger.tensorboard.name=3": "logger.tensorboard.name=3: must be text",
    "+logger.name=mine": "logger.name=mine: must be a mapping with a _target_, or null to leave it out; a logger's "
    "options are logger.NAME.OPTION",
    "optimizer._target_=torch.optim.SGD optimizer.betas=[0.9,0.999]": "optimizer.betas=[0.9, 0.999]: is not an option "
    "of SGD, which has: params, lr, momentum",
    "optimizer._target_=torch.optim.Muon": "optimizer._target_=torch.optim.Muon: takes matrices only",
    "scheduler=exponential": "scheduler.gamma: has no default; type scheduler.gamma=...",
    "+callbacks.bar={_target_:pytorch_lightning.callbacks.TQDMProgressBar}": "callbacks.bar._target_=TQDMProgressBar: "
    "a run can have only one progress bar; callbacks.progress=null removes the other one",
    "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val_loss}": "callbacks.stop.monitor="
    "val_loss: is not a logged metric; choose from val/objective, val/active_units, val/kl, val/nelbo, ",
    "data.validation_size=0 +callbacks.x={_target_:pytorch_lightning.callbacks.ModelCheckpoint,monitor:val/nelbo}": ""
    "callbacks.x.monitor=val/nelbo: is not a logged metric; without validation images none is logged",
    "scheduler._target_=nelbo.training.cosin": "scheduler._target_=nelbo.training.cosin: does not exist",
    "+objectiv.beta=3": "+objectiv.beta=3: nothing reads this key; did you mean objective.beta?",
    "objective.num_samples=1000000000": "objective.num_samples=1000000000: with data.batch_size=256",
    "data.name=null": "data.name=null: has no default; type data.name=...",
    "data.shape=8": "data.shape=8: must be [channels, height, width]",
    "data.levels=257": "data.levels=257: must be at most 256",
    "data.batch_size=true": "data.batch_size=true: must be a whole number of at least 1",
    "data.num_workers=-1": "data.num_workers=-1: must be a whole number of at least 0",
    "model.shape=3": "model.shape=3: must be that of the data, [1, 8, 8]",
    "model.latent_dim=10000000000000": "model.posterior=DiagonalNormalPosterior: needs more memory than there is",
    "model.encoder.hidden=200": "model.encoder.hidden=200: must be a list of whole numbers",
    "model.encoder.activation=[]": "model.encoder.activation=[]: must be an activation class",
    "allow_targets=[mypackage]": "allow_targets='mypackage': must be a package's name with a dot at its end",
    "nonsense": "nonsense: not an override, which is key=value; python train.py model=mlp_vae data=digits",
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


def test_bad_config_every_check_is_of_a_key_that_there_is() -> None:
    """A check of a key that was renamed would never be asked."""
    register_resolvers()
    with initialize_config_dir(config_dir=str(ROOT / "conf"), **hydra_options()):
        plain = OmegaConf.to_container(compose("config", overrides=["optimizer=adamw"]), resolve=True)
    assert isinstance(plain, dict)
    check(plain)
    options = {
        "trainer": inspect.signature(pl.Trainer).parameters,
        "optimizer": {
            **inspect.signature(torch.optim.SGD).parameters,
            **inspect.signature(torch.optim.Adam).parameters,
        },
    }
    loggers = (pl.loggers.TensorBoardLogger, pl.loggers.CSVLogger)
    assert LOGGER_OPTIONS.keys() <= {name for kind in loggers for name in inspect.signature(kind).parameters}
    for key in CHECKS:
        parent, _, name = key.rpartition(".")
        assert name in (select(plain, parent) if parent else plain) or name in options[parent], key


def test_bad_config_a_tree_that_a_file_may_hold() -> None:
    for plain in ({"a": {"_target_": "os.system"}}, {"a": {7: 1}}, {"a": object()}, {"allow_targets": "x"}):
        with pytest.raises(ConfigError):
            check(plain)


@pytest.mark.parametrize("override", ["model.latent_dim=0", "posterior=deterministic"])
def test_a_process_of_its_own_says_the_same(train: Train, done: dict[str, Done], override: str) -> None:
    alone = train("model=mlp_vae", "data=digits", "trainer=smoke", override)
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, "", done[override].stderr)


def test_a_missing_gpu(train: Train) -> None:
    done = train("model=mlp_vae", "data=digits", "trainer=gpu", CUDA_VISIBLE_DEVICES="")
    message = "error: trainer.accelerator=gpu: is not available on this machine"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(message), done.stderr


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


@needs("mnist")
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
