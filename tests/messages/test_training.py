"""Invalid command lines of `train`: each gets one line with a hint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.command_lines import SMALL_MODEL

TRAIN = {
    "threads=1 debug=true": "debug=true: debug is a group; choose one of its options: anomaly, fast_dev_run, nan, "
    "none, overfit, profile",
    "logger=false": "logger=false: logger is a group; choose one of its options: csv, mlflow, none, tensorboard, wandb",
    "data=MNIST": "data=MNIST: there is no such option; did you mean mnist? choose from arrays, binarized_mnist",
    "data=CIFAR-10": "data=CIFAR-10: there is no such option; did you mean cifar10? choose from",
    "data=fmnist": "data=fmnist: there is no such option; did you mean fashion_mnist? choose from",
    "model=mlp": "model=mlp: there is no such option; did you mean mlp_vae",
    "model=vae": "model=vae: there is no such option; did you mean conv_vae, gated_mlp_vae",
    "model=beta_vae": "model=beta_vae: there is no such option; did you mean objective.beta=4? choose from",
    "optimizer=SGD": "optimizer=SGD: there is no such option; did you mean sgd? choose from adagrad",
    "optimizer=adadelta": "optimizer=adadelta: there is no such option; did you mean "
    "optimizer._target_=torch.optim.Adadelta? choose",
    "hydra/launcher=slurm": "hydra/launcher=slurm: there is no such option; did you mean submitit_slurm?",
    "metrics=nll": "metrics=nll: there is no such key; it belongs to evaluate, which takes a finished run: "
    "python scripts/evaluate.py run=outputs/... metrics=nll",
    "optimizer.amsgrad=true": "optimizer.amsgrad=true: the config leaves this to the default of Adam; a plus sets it: "
    "+optimizer.amsgrad=true",
    "logger={_target_:own.Logger,version:3}": "logger={_target_:own.Logger,version:3}: its entries have names: "
    "'+logger.NAME={_partial_:true,_target_:own.Logger,version:3}'",
    "logger.name=mine": "logger.name=mine: there is no such key; did you mean logger.tensorboard.name?",
    "+likelihood.sigma=0.1": "+likelihood.sigma=0.1: nothing reads this key; model.likelihood.sigma is a key of",
    "+prior.components=9": "+prior.components=9: nothing reads this key; model.prior.components is a key of prior=",
    "+posterior.foo=1": "+posterior.foo=1: nothing reads this key",
    "data.augment=true": "data.augment=true: must be a mapping with a _target_: its options are data.augment.flip=true",
    "data.source=null": "data.source=null: must be a mapping with a _target_: choose a set with data=...",
    "callbacks={_target_:own.Callback}": "callbacks={_target_:own.Callback}: its entries have names: "
    "'+callbacks.NAME={_target_:own.Callback}'",
    "trainer.enable_progress_bar=false": "trainer.enable_progress_bar=false: cannot be set here; the progress bar is a "
    "callback: ~callbacks.progress leaves it out",
    "trainer.gpus=1": "trainer.gpus=1: there is no such key; did you mean trainer.devices?",
    "learning_rate=1": "learning_rate=1: there is no such key; did you mean optimizer.lr? python train.py --cfg job",
    "z_dim=3": "z_dim=3: there is no such key; did you mean model.latent_dim?",
    "protocol=dynamic": "protocol=dynamic: there is no such key; did you mean data.protocol?",
    "device=cpu": "device=cpu: there is no such key; did you mean trainer.accelerator?",
    "Model=mlp_vae": "Model=mlp_vae: there is no such key; did you mean model?",
    "model/latent_dim=3": "model/latent_dim=3: there is no such key; did you mean model.latent_dim?",
    "hydra.run.dri=x": "hydra.run.dri=x: there is no such key; did you mean hydra.run.dir?",
    "ckpt_path=x": "ckpt_path=x: there is no such key; did you mean resume",
    "out=outputs/x": "out=outputs/x: there is no such key; did you mean hydra.run.dir?",
    "prior.components=3": "prior.components=3: there is no such key; model.prior.components is a key of prior=mixture "
    "or prior=vamp",
    "callbacks.early_stopping=true": "callbacks.early_stopping=true: there is no such key; callbacks has: progress, ",
    "model.likelihood=bernoulli": "model.likelihood=bernoulli: a model needs one: choose with likelihood=bernoulli",
    "~likelihood": "model.likelihood=null: a model needs one: choose with likelihood=...",
    "~seed": "~seed: cannot be left out, because data.order_seed takes its value from seed",
    "~callbacks.progres": "~callbacks.progres: there is no such key; did you mean callbacks.progress?",
    "+seed=3": "+seed=3: seed exists already; without the plus: seed=3",
    "+data=digits": "+data=digits: data is chosen already; without the plus: data=digits",
    "scheduler={step_size:3}": "scheduler={step_size:3}: is merged into the current mapping, which has no step_size, "
    "and nelbo.training.cosine does not take it; _target_ chooses another class; to replace it: '~scheduler' "
    "'+scheduler={_partial_:true,_target_:...,step_size:3}'",
    "data.root=Fotosä": "data.root=Fotosä: Hydra cannot read this; quotes within quotes make it one text: "
    "\"data.root='Fotosä'\"",
    "objective.beta={linear:{steps:9}": "objective.beta={linear:{steps:9}: Hydra cannot read this; did you mean "
    "'objective.beta={linear:{steps:9}}'?",
    "model.encoder.hidden=(9,9)": "model.encoder.hidden=(9,9): Hydra cannot read this; did you mean "
    "'model.encoder.hidden=[9,9]'?",
    "model.encoder.hidden=[9, 9]": "model.encoder.hidden=[9,: the shell splits at spaces; put the whole override in "
    "quotes: 'model.encoder.hidden=[9, 9]'",
    "objective.beta={linear:steps:9} objective.beta={linear:end:2}": "objective.beta={linear:steps:9}: the shell "
    "splits braces at commas",
    "optimizer=lr:1 optimizer=eps:1": "optimizer=lr:1: the shell splits braces at commas",
    "seed=1,threads=2": "seed=1,threads=2: overrides are separated by spaces: seed=1 threads=2",
    "seed=1,": "seed=1,: Hydra cannot read this; did you mean seed=1?",
    "mnist": "mnist: not an override, which is key=value; did you mean data=mnist?",
    "data mnist": "data: not an override, which is key=value; did you mean data=mnist?",
    "data = mnist": "data: not an override, which is key=value; without spaces around the sign: data=mnist",
    "objective.beta= 4": "4: not an override, which is key=value; without a space after the sign: objective.beta=4",
    "seed:3": "seed:3: not an override, which is key=value; did you mean seed=3?",
    "--epochs 5": "--epochs: is not an option; overrides are typed without dashes, as key=value: trainer.max_epochs=5",
    "--data=mnist": "--data=mnist: is not an option; overrides are typed without dashes, as key=value: data=mnist",
    "--cfg": "argument --cfg/-c: expected one argument; python train.py --hydra-help",
    "hydra.sweep.dir=x": "hydra.sweep.dir=x: is for -m; the directory of a run is hydra.run.dir=...",
    "-m hydra.run.dir=x": "hydra.run.dir=x: the directory of a sweep is hydra.sweep.dir=...",
    "trainer.max_epochs=1e3": "trainer.max_epochs=1000.0: must be a whole number of at least 1; write 1000",
    "data=digits data.transform=none": "data.transform=none: there is no such key; data is nelbo.data.module.ImageData "
    "and has: name, source, shape",
    "data=digits data.train_batch_size=3": "data.train_batch_size=3: there is no such key; did you mean "
    "data.batch_size?",
    "data=digits ~data.nope": "~data.nope: there is no such key; data is nelbo.data.module.ImageData and has: name",
    "run=outputs/x": "run=outputs/x: there is no such key; it belongs to evaluate, which takes a",
    "logger.csv.version=1": "logger.csv.version=1: there is no such key; logger.csv.version is a key of logger=csv",
    "logger.csv.name=x": "logger.csv.name=x: there is no such key; logger.csv.name is a key of logger=csv",
    "hydra.sweeper.n_trials=3": "hydra.sweeper.n_trials=3: there is no such key; hydra.sweeper.n_trials is a key of "
    "hydra/sweeper=optuna",
    "hydra.launcher.partition=x": "hydra.launcher.partition=x: there is no such key; hydra.launcher.partition is a key "
    "of hydra/launcher=submitit_slurm",
    "data=arrays data.root=x.npz": "data.root=x.npz: there is no such key; did you mean data.path?",
    "data.root=x": "data.root=x: there is no such key; data.root is a key of data=image_folder",
    "optimizer.wd=0.1": "optimizer.wd=0.1: there is no such key; did you mean +optimizer.weight_decay=0.1?",
    "optimizer=adamw optimizer.l2=0.1": "optimizer.l2=0.1: there is no such key; did you mean optimizer.weight_decay?",
    "likelihood.scale=0.1": "likelihood.scale=0.1: there is no such key; model.likelihood is nelbo.heads.",
    "~model.nope": "~model.nope: there is no such key; model is nelbo.models.VAE and has: posterior",
    "trainer.max_time.hours=2": "trainer.max_time.hours=2: there is no such key; its value may be a mapping: "
    "'trainer.max_time={hours:2}'",
    "objective.beta.linear.steps=5": "objective.beta.linear.steps=5: there is no such key; its value may be a mapping: "
    "'objective.beta={linear:{steps:5}}'",
    "objective.beta.linnear.steps=5": "objective.beta.linnear.steps=5: there is no such key; objective.beta is a "
    "number or a schedule (linear, cosine, cyclical), such as {linear:{steps:2000}}",
    "model=mlp_vae model.latent_dim.x=1": "model.latent_dim.x=1: there is no such key; model.latent_dim is a "
    "value, which has no keys",
    "optimizer.betas.x=1": "optimizer.betas.x=1: there is no such key; optimizer.betas must be two numbers",
    "model.encoder=unet": "model.encoder=unet: a model needs one: choose with model=..., or give a mapping",
    "model.decoder=mlp": "model.decoder=mlp: a model needs one: choose with model=mlp_vae, or give a mapping",
    "model.posterior=foo": "model.posterior=foo: a model needs one: choose with posterior=..., or give a mapping",
    "model.posterior=flow": "model.posterior=flow: a model needs one: choose with posterior=flow, or give a mapping",
    "guard=none": "guard=none: a run needs it to end training that is not finite; guard.skip_above=null skips",
    "~guard": "~guard: a run needs it to end training that is not finite; guard.skip_above=null skips",
    "trainer=[smoke,cpu]": "trainer=[smoke,cpu]: trainer takes one option, not a list: trainer=smoke; -m "
    "trainer=smoke,cpu runs each",
    "-m data=[digits],mnist": "data=[digits],mnist: data takes one option, not a list: data=digits; -m "
    "data=digits,mnist runs each",
    "hydra/launcher=[local,ray]": "hydra/launcher=[local,ray]: hydra/launcher takes one option, not a list: "
    "hydra/launcher=local",
    "logger=[csv,foo]": "logger=[foo]: there is no such option; choose from csv, mlflow, none, tensorboard, wandb",
    "'+callbacks.es={_target_:lightning.pytorch.callbacks.EarlyStopping}'": "callbacks.es._target_=lightning.pytorch."
    "callbacks.EarlyStopping: is not among the packages whose objects a config may build; did you mean "
    "pytorch_lightning.callbacks.EarlyStopping?",
    "trainer._target_=lightning.Trainer": "trainer._target_=lightning.Trainer: is not among the packages whose objects "
    "a config may build; did you mean pytorch_lightning.Trainer?",
    "logger.tensorboard.save_dir=x": "logger.tensorboard.save_dir=x: cannot be set; a run's directory is hydra.run.dir",
    "scheduler.last_epoch=3": "scheduler.last_epoch=3: is set by the run; resume=auto continues a schedule",
    "model.encoder.in_shape=3": "model.encoder.in_shape=3: there is no such key; model.encoder is nelbo.nets.Conv",
    "+experiment=foo": "+experiment=foo: there is no such option; choose from burda2016_iwae5",
    "+data=MNIST": "+data=MNIST: there is no such option; did you mean mnist? choose from arrays",
    "data=/home/me/photos": "data=/home/me/photos: there is no such option; did you mean data=image_folder "
    "data.root=/home/me/photos? choose from arrays",
    "data=images/all.npz": "data=images/all.npz: there is no such option; did you mean data=arrays "
    "data.path=images/all.npz? choose from arrays",
    "data=huggingface": "data.name=null: has no default; type data.name=...",
    "trainer.max_steps='\"4\"'": "trainer.max_steps='4': must be a whole number of at least 1",
    "seed=null": "seed=null: must be a whole number of at least 0",
    "seed=true": "seed=true: must be a whole number of at least 0",
    "trainer.max_time={hour:1}": "trainer.max_time={hour:1}: must be 'DD:HH:MM:SS', or a mapping of days",
    "+callbacks.g=a:1 +callbacks.g=b:2": "+callbacks.g=a:1: the shell splits braces at commas",
}
WITHOUT_A_LIST = ("trainer=smoke,cpu", "data=digits,mnist", "hydra/launcher=local,ray", "objective.beta=1,4")
"""Overrides with several values of keys that take no list."""


@pytest.mark.parametrize("line", TRAIN)
def test_an_invalid_command_line_of_training_gets_a_hint(message_for: Callable[..., str], line: str) -> None:
    assert message_for(line).startswith(TRAIN[line]), message_for(line)


def test_a_list_is_suggested_only_where_the_key_takes_one(message_for: Callable[..., str]) -> None:
    for line in WITHOUT_A_LIST:
        message = message_for(line)
        assert message.startswith(f"{line}: several values are a sweep") and "a list is" not in message
    assert message_for("logger=csv,tensorboard").endswith("; a list is 'logger=[csv,tensorboard]'")
    assert "a list is 'model.encoder.hidden=[9,8]'" in message_for("model=mlp_vae model.encoder.hidden=9,8")
    for valid in ("logger=[csv,tensorboard]", "debug=[anomaly,profile]", "-m data=digits,mnist"):
        assert "list" not in message_for(valid), message_for(valid)


def test_a_valid_command_line_has_no_message(message_for: Callable[..., str]) -> None:
    for line in (
        "",
        "model=conv_vae data=mnist",
        "-m model.latent_dim=2 hydra.sweep.dir=x",
        "++seed=3 ~callbacks.units",
    ):
        assert message_for(line) == "", line
    for primary in ("evaluate", "draw"):
        assert message_for("run=x", primary) == ""


def test_the_directories_of_a_run_and_of_its_sweep_may_both_be_given(message_for: Callable[..., str]) -> None:
    """A cell of several processes is started as a run that names its sweep's directory too."""
    assert message_for([*SMALL_MODEL, "hydra.sweep.dir=sweep", "hydra.run.dir=sweep/cell"]) == ""
