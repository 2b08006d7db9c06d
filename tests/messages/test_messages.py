"""What is said of command lines that cannot be used, and that a hint works when it is followed as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.composing.script import Script
from nelbo.config.checks import check
from nelbo.config.quoting import quoted
from nelbo.errors import NelboError
from nelbo.messages.explain import explain
from nelbo.messages.keys import takes
from nelbo.messages.names import OTHER_KEYS, OTHER_OPTIONS, meant
from nelbo.messages.shell import as_text, for_shell
from nelbo.messages.unread import refuse_left_out, refuse_unread
from nelbo.messages.words import check_words
from nelbo.running.resume import how_to_resume
from tests.helpers.forks import ROOT, forked
from tests.helpers.interrupted import SMALL

CONF = ROOT / "conf"
PATHS = {"config": "train.py", "evaluate": "scripts/evaluate.py", "draw": "scripts/draw.py"}
"""The scripts by the name of their primary config."""
SMALL_MODEL = ["model=mlp_vae", "data=digits"]


def script(primary: str = "config") -> Script:
    return Script(f"python {PATHS[primary]}", CONF, primary)


def composed(words: list[str], primary: str = "config") -> DictConfig:
    """The config of a command line, looked through as a script does before it begins."""
    register_resolvers()
    check_words(words, script(primary))
    with initialize_config_dir(str(CONF), **hydra_options()):
        config = compose(primary, overrides=[word for word in words if not word.startswith("-")])
        refuse_unread(config, script(primary))
    if primary == "config":
        check(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
    else:
        refuse_left_out(config, script(primary))
    return config


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> object:
    """What is said of a command line; empty if it is taken."""

    def answer(line: str | list[str], primary: str = "config") -> str:
        words = shlex.split(line) if isinstance(line, str) else line
        monkeypatch.setattr(sys, "argv", [PATHS[primary], *words])
        try:
            composed(words, primary)
        except (NelboError, HydraException, OmegaConfBaseException, ValueError) as error:
            line = explain(error, script(primary))
            assert len(line.splitlines()) == 1
            return line
        return ""

    return answer


TRAIN = {
    "threads=1 debug=true": "debug=true: debug is a group; choose one of its options: anomaly, none, overfit, profile",
    "logger=false": "logger=false: logger is a group; choose one of its options: csv, none, tensorboard",
    "data=MNIST": "data=MNIST: there is no such option; did you mean mnist? choose from arrays, binarized_mnist",
    "data=CIFAR-10": "data=CIFAR-10: there is no such option; did you mean cifar10? choose from",
    "data=fmnist": "data=fmnist: there is no such option; did you mean fashion_mnist? choose from",
    "model=mlp": "model=mlp: there is no such option; did you mean mlp_vae? choose from",
    "model=vae": "model=vae: there is no such option; did you mean conv_vae, linear_vae, mlp_vae or vq_vae? choose",
    "model=beta_vae": "model=beta_vae: there is no such option; did you mean objective.beta=4? choose from",
    "optimizer=SGD": "optimizer=SGD: there is no such option; did you mean optimizer._target_=torch.optim.SGD? choose",
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
    "+seed=3": "+seed=3: seed is there already; without the plus: seed=3",
    "+data=digits": "+data=digits: data is chosen already; without the plus: data=digits",
    "scheduler={step_size:3}": "scheduler={step_size:3}: is merged into what stands there, which has no step_size and "
    "is nelbo.training.cosine, which takes none; another class is named by its _target_; to replace it: '~scheduler' "
    "'+scheduler={_partial_:true,_target_:...,step_size:3}'",
    "data.root=Fotosä": "data.root=Fotosä: Hydra cannot read this; quotes within quotes make it one text: "
    "\"data.root='Fotosä'\"",
    "objective.beta={linear:{steps:9}": "objective.beta={linear:{steps:9}: Hydra cannot read this; did you mean "
    "'objective.beta={linear:{steps:9}}'?",
    "model.encoder.hidden=(9,9)": "model.encoder.hidden=(9,9): Hydra cannot read this; did you mean "
    "'model.encoder.hidden=[9,9]'?",
    "model.encoder.hidden=[9, 9]": "model.encoder.hidden=[9,: the shell splits at blanks; put the whole override in "
    "quotes: 'model.encoder.hidden=[9, 9]'",
    "objective.beta={linear:steps:9} objective.beta={linear:end:2}": "objective.beta={linear:steps:9}: the shell "
    "splits braces at commas",
    "optimizer=lr:1 optimizer=eps:1": "optimizer=lr:1: the shell splits braces at commas",
    "seed=1,threads=2": "seed=1,threads=2: overrides are separated by blanks: seed=1 threads=2",
    "seed=1,": "seed=1,: Hydra cannot read this; did you mean seed=1?",
    "mnist": "mnist: not an override, which is key=value; did you mean data=mnist?",
    "data mnist": "data: not an override, which is key=value; did you mean data=mnist?",
    "data = mnist": "data: not an override, which is key=value; without blanks around the sign: data=mnist",
    "objective.beta= 4": "4: not an override, which is key=value; without a blank behind the sign: objective.beta=4",
    "seed:3": "seed:3: not an override, which is key=value; did you mean seed=3?",
    "--epochs 5": "--epochs: is no option; options are typed without dashes, as key=value: trainer.max_epochs=5",
    "--data=mnist": "--data=mnist: is no option; options are typed without dashes, as key=value: data=mnist",
    "--cfg": "argument --cfg/-c: expected one argument; python train.py --hydra-help",
    "hydra.sweep.dir=x": "hydra.sweep.dir=x: is for -m; a run goes to hydra.run.dir=...",
    "-m hydra.run.dir=x": "hydra.run.dir=x: a sweep goes to hydra.sweep.dir=...",
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
    "number, or a schedule such as {linear:{steps:2000}}, of linear, cosine, cyclical",
    "model=mlp_vae model.latent_dim.x=1": "model.latent_dim.x=1: there is no such key; model.latent_dim is 50, and "
    "nothing stands below it",
    "optimizer.betas.x=1": "optimizer.betas.x=1: there is no such key; optimizer.betas must be two numbers",
    "model.encoder=resnet": "model.encoder=resnet: a model needs one: choose with model=..., or give a mapping",
    "model.decoder=mlp": "model.decoder=mlp: a model needs one: choose with model=mlp_vae, or give a mapping",
    "model.posterior=foo": "model.posterior=foo: a model needs one: choose with posterior=..., or give a mapping",
    "model.posterior=flow": "model.posterior=flow: a model needs one: choose with posterior=flow, or give a mapping",
    "guard=none": "guard=none: a run needs it to end training that is not finite; guard.skip_above=null skips",
    "~guard": "~guard: a run needs it to end training that is not finite; guard.skip_above=null skips",
    "trainer=[smoke,cpu]": "trainer=[smoke,cpu]: one option of trainer is chosen, and no list: trainer=smoke; -m "
    "trainer=smoke,cpu tries each",
    "-m data=[digits],mnist": "data=[digits],mnist: one option of data is chosen, and no list: data=digits; -m "
    "data=digits,mnist tries each",
    "hydra/launcher=[local,ray]": "hydra/launcher=[local,ray]: one option of hydra/launcher is chosen, and no list: "
    "hydra/launcher=local",
    "logger=[csv,foo]": "logger=[foo]: there is no such option; choose from csv, none, tensorboard",
    "'+callbacks.es={_target_:lightning.pytorch.callbacks.EarlyStopping}'": "callbacks.es._target_=lightning.pytorch."
    "callbacks.EarlyStopping: is not among the packages whose objects a config may build; did you mean "
    "pytorch_lightning.callbacks.EarlyStopping?",
    "trainer._target_=lightning.Trainer": "trainer._target_=lightning.Trainer: is not among the packages whose objects "
    "a config may build; did you mean pytorch_lightning.Trainer?",
    "logger.tensorboard.save_dir=x": "logger.tensorboard.save_dir=x: cannot be set; a run's directory is hydra.run.dir",
    "scheduler.last_epoch=3": "scheduler.last_epoch=3: is set by the run; resume=auto continues a schedule",
    "model.encoder.in_shape=3": "model.encoder.in_shape=3: there is no such key; model.encoder is nelbo.nets.Conv",
    "+experiment=foo": "+experiment=foo: there is no such option; choose from mnist_2d, none, ppca, warm_up",
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
"""Several values where a list would be no use."""

EVALUATE = {
    "outputs/x": "outputs/x: not an override, which is key=value; did you mean run=outputs/x?",
    "run=x metrics=[NLL]": "metrics=[NLL]: there is no such option; did you mean nll? choose from active_units",
    "run=x metrics=mig": "metrics=mig: there is no such option; did you mean disentanglement?",
    "run=x metrics=nll,elbo": "metrics=nll,elbo: several values are a list: 'metrics=[nll,elbo]'",
    "checkpoint=x": "checkpoint=x: there is no such key; did you mean run?",
    "run=x k=5": "k=5: there is no such key; did you mean num_samples?",
    "run=x model=conv_vae": "model=conv_vae: there is no such key; it belongs to training (python train.py)",
    "run=x data=mnist": "data=mnist: there is no such key; it belongs to training (python train.py); "
    "a finished run brings its own data; where it differs now: data.KEY=...",
    "run=x +foo=1": "+foo=1: nothing reads this key",
    "run=x ~split": "~split: evaluate needs it",
    "run=x metrics.fid.limit=10": "metrics.fid.limit=10: there is no such key; metrics.fid.limit is a key of "
    "metrics=fid",
    "run=x metrics.ais.limit=10": "metrics.ais.limit=10: there is no such key; metrics.ais.limit is a key of "
    "metrics=ais",
    "run=x data={root:x}": "data={root:x}: its keys are set one by one: data.root=x",
    "run=x data=null": "data=null: is no group here, and its keys are set one by one: data.KEY=...",
    "run=x extractor=classifier,inception": "extractor=classifier,inception: takes one of them",
}


@pytest.mark.parametrize("line", TRAIN)
def test_a_wrong_command_line_of_training_gets_a_hint(said, line: str) -> None:
    assert said(line).startswith(TRAIN[line]), said(line)


def test_a_list_is_only_offered_where_one_is_taken(said) -> None:
    for line in WITHOUT_A_LIST:
        assert said(line).startswith(f"{line}: several values are a sweep") and "a list is" not in said(line)
    assert said("logger=csv,tensorboard").endswith("; a list is 'logger=[csv,tensorboard]'")
    assert "a list is 'model.encoder.hidden=[9,8]'" in said("model=mlp_vae model.encoder.hidden=9,8")
    for taken in ("logger=[csv,tensorboard]", "debug=[anomaly,profile]", "-m data=digits,mnist"):
        assert "list" not in said(taken), said(taken)


def test_a_right_command_line_is_taken(said) -> None:
    for line in (
        "",
        "model=conv_vae data=mnist",
        "-m model.latent_dim=2 hydra.sweep.dir=x",
        "++seed=3 ~callbacks.units",
    ):
        assert said(line) == "", line
    for primary in ("evaluate", "draw"):
        assert said("run=x", primary) == ""


@pytest.mark.parametrize("line", EVALUATE)
def test_a_wrong_command_line_of_evaluation_gets_a_hint(said, line: str) -> None:
    assert said(line, "evaluate").startswith(EVALUATE[line]), said(line, "evaluate")


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("optimizer.amsgrad=true", "sets it: "),
        ("data.root=Fotosä data=image_folder", "one text: "),
        ("'data.root=it'\"'\"'s [v1]' data=image_folder", "one text: "),
        ("objective.beta={linear:{steps:9}", "did you mean "),
        ("model.encoder.hidden=(9,9) model=mlp_vae", "did you mean "),
        ("'objective.beta={cosine:{steps:9}}' experiment=warm_up", "replace it: "),
        ("'logger={_target_:pytorch_lightning.loggers.CSVLogger,flush_logs_every_n_steps:9}'", "have names: "),
        ("seed=1,threads=2", "separated by blanks: "),
        ("mnist", "did you mean "),
        ("data = mnist", "around the sign: "),
        ("--epochs 5", "as key=value: "),
        ("optimizer.wd=0.1", "did you mean "),
        ("trainer.max_time.hours=2", "may be a mapping: "),
        ("objective.beta.linear.steps=5", "may be a mapping: "),
        ("logger=csv,tensorboard", "a list is "),
        ("trainer=[smoke,cpu]", "and no list: "),
        ("+data=digits", "without the plus: "),
        ("data=/home/me/photos", "did you mean "),
        ("data=huggingface", "type "),
    ],
)
def test_a_hint_works_when_it_is_followed_as_it_stands(said, line: str, separator: str) -> None:
    _, found, hint = said(line).rpartition(separator)
    assert found
    others = [word for word in shlex.split(line)[1:] if word.startswith(("data=image", "model=", "experiment="))]
    hint = re.split(r"\? |; -m ", hint)[0].rstrip("?")  # what there is to choose from, or what else may be done
    assert said([*others, *shlex.split(hint)]) == ""


def test_every_other_name_of_an_option_leads_to_one_that_there_is(said) -> None:
    for group, others in OTHER_OPTIONS.items():
        primary = {"metrics": "evaluate", "picture": "draw"}.get(group, "config")
        for other, meanings in others.items():
            assert other not in script(primary).options(group)
            for meaning in meanings:
                if meaning.startswith("optimizer._target_="):
                    assert meaning.rpartition(".")[2].casefold() == other  # its own options are not looked at here
                else:
                    assert "=" in meaning or meaning in script(primary).options(group), (group, other)
                    assert "=" not in meaning or said(meaning, primary) == "", (group, other)


def test_every_other_name_of_a_key_leads_to_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL_MODEL])
    register_resolvers()
    scripts = [script(primary) for primary in PATHS]
    of_files = {"data.root", "data.path", "hydra.run.dir", "init_from"}  # of other data; Hydra's; where training has it
    for other, meanings in OTHER_KEYS.items():
        for meaning in " or ".join(meanings).split(" or "):
            known = any(meaning in one.config or takes(meaning, one) for one in scripts)
            assert known or "=" in meaning or meaning in of_files, (other, meaning)


def test_names_that_are_meant() -> None:
    options = ["conv_vae", "linear_vae", "mlp_vae", "vq_vae", "autoencoder"]
    assert meant("VQ-VAE", options) == ["vq_vae"] and meant("conv", options) == ["conv_vae"]
    assert meant("conv_vea", options) == ["conv_vae"] and meant("fidd", ["fid", "kid"]) == ["fid"]
    assert meant("imagenet", options) == [] and meant("x", options) == []


def test_a_key_that_nothing_reads_is_refused_and_one_that_is_interpolated_is_not(said) -> None:
    for typed, hint in (
        ("+beta=4", "did you mean objective.beta?"),
        ("+lr=10", "did you mean optimizer.lr?"),
        ("++epochs=7", "did you mean trainer.max_epochs?"),
        ("+ckpt_path=x", "did you mean resume"),
        ("+my=3", "a key of your own is one that another value takes, as ${my}"),
        ("+my.own=3", "a key of your own is one that another value takes, as ${my}"),
        ("+budget.foo=3", "a key of your own is one that another value takes, as ${budget.foo}"),
        ("+experiment.model=3", "a file of experiment begins with the line '# @package _global_'"),
    ):
        assert said(typed).startswith(f"{typed}: nothing reads this key; {hint}"), said(typed)
    assert said("+beta=4 'seed=${objective.beta}'").startswith("+beta=4: nothing reads")  # another key of that name
    for read in (
        "+my=3 'model.latent_dim=${my}'",
        "+my.own=3 'model.latent_dim=${my.own}'",
        "+my=3 'model.latent_dim=${oc.select:my,4}'",
        "+my=3 '+her=${my}' 'model.latent_dim=${..her}' hydra.run.dir=x",
        "+budget.latents=3 'model.latent_dim=${budget.latents}'",
    ):
        assert said(read) == "", read


def test_a_key_that_nothing_reads_stops_a_run_and_a_sweep_before_they_begin(tmp_path: Path) -> None:
    small = (*SMALL_MODEL, "trainer=smoke", "callbacks=none", "logger=none")
    done = forked("train.py", *small, "+beta=4", f"hydra.run.dir={tmp_path / 'run'}")
    expected = "error: +beta=4: nothing reads this key; did you mean objective.beta?"
    assert done.returncode == 2 and done.stderr.startswith(expected) and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run" / "checkpoints").exists()
    done = forked("train.py", "-m", *small, "+beta=1,4", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stderr.startswith("error: +beta=1,4: nothing reads this key"), done.stderr
    assert not list((tmp_path / "sweep").glob("*/cell.json"))


def test_a_users_config_may_have_keys_of_its_own_for_interpolation(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\nmy:\n  size: 3\nmodel:\n  latent_dim: ${my.size}\n")
    words = (*SMALL_MODEL, "trainer=smoke", "callbacks=none", "logger=none", "experiment=mine")
    place = ("--config-dir", str(tmp_path / "conf"), f"hydra.run.dir={tmp_path / 'run'}")
    done = forked("train.py", *place[:2], *words, place[2])
    assert done.returncode == 0, done.stderr
    file.write_text("model:\n  latent_dim: 3\n")  # without the first line
    done = forked("train.py", *place[:2], *words, f"hydra.run.dir={tmp_path / 'other'}")
    assert done.returncode == 2 and "experiment.model=...: nothing reads this key; a file of experiment" in done.stderr


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12) | st.text("a\\'\"${}[],= ", max_size=12)


@given(TEXTS)
def test_quoted_reads_back_as_the_same_text(text: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={quoted(text)}"])
    config = OmegaConf.create({"key": override.value()})
    assert config.key == text


@given(TEXTS.filter(lambda text: "\0" not in text))
def test_an_override_for_a_shell_reads_back_as_the_same_text(text: str) -> None:
    (word,) = shlex.split(as_text("key", text))
    (override,) = OverridesParser.create().parse_overrides([word])
    assert OmegaConf.create({"key": override.value()}).key == text
    assert shlex.split(for_shell(text)) == [text]


NAMES = ["my run", "run [v1]", "läuft=gut", "it's", "a,b", "2024", "null", "${seed}", "back\\slash", 'q"uote', "$HOME"]


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_resume_command_means_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / name / "checkpoints" / "last.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=3", f"hydra.run.dir={quoted(name)}"])
    printed = how_to_resume(tmp_path / name).removeprefix("to resume: ")
    by_shell = subprocess.run(
        ["bash", "-c", f"python() {{ printf '%s\\0' \"$@\"; }}; {printed}"], capture_output=True, text=True, check=True
    )
    _, *words, place, resume = by_shell.stdout.split("\0")[:-1]
    assert words == ["seed=3"] and resume == "resume=auto"
    (override,) = OverridesParser.create().parse_overrides([place])
    assert str(OmegaConf.create({"dir": override.value()}).dir) == name


def test_the_printed_resume_command_goes_on_when_it_is_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "läufe [v1]" / "it's=mine"
    words = (*SMALL, "trainer.max_epochs=2")
    done = forked("tests/helpers/stopping.py", "train:3:SIGTERM", *words, f"hydra.run.dir={quoted(str(folder))}")
    assert done.returncode == 143, done.stderr
    (printed,) = [line for line in done.stderr.splitlines() if "to resume: " in line]
    pasted = shlex.split(printed.partition("to resume: ")[2])
    assert pasted[:2] == ["python", "train.py"]
    done = forked(*pasted[1:])
    assert done.returncode == 0 and (folder / "metrics.json").is_file(), done.stderr
    assert "resuming from " in (folder / "train.log").read_text()


def test_a_checkpoint_as_resume_names_the_run_that_it_is_of(smoke_run: Path) -> None:
    done = forked("train.py", *SMALL, f"resume={smoke_run / 'checkpoints' / 'last.ckpt'}")
    assert done.returncode == 2 and done.stderr.endswith(f"did you mean resume={smoke_run}?\n"), done.stderr


OWN_NETS = """
from torch import nn
from nelbo.nets import Net

class WithoutArguments(Net):
    def __init__(self, in_shape):
        super().__init__()

class WithoutCall(Net):
    def __init__(self, in_shape):
        self.layer = nn.Linear(4, 4)

class NoNet(nn.Module):
    def __init__(self, in_shape):
        super().__init__()
"""


OF_NET = "super().__init__(in_shape, out_shape, layers)"


def test_an_own_net_that_does_not_call_its_base_as_it_asks_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ownnets.py").write_text(OWN_NETS)
    start = (
        f"import runpy, sys\nsys.path.insert(0, {str(tmp_path)!r})\nrunpy.run_path('train.py', run_name='__main__')\n"
    )
    (tmp_path / "start.py").write_text(start)
    for name, hint in {
        "WithoutArguments": f"its __init__ must pass in_shape, out_shape, layers to that of Net: {OF_NET}",
        "WithoutCall": "its __init__ must call super().__init__(...) before it sets attributes",
        "NoNet": f"has no out_shape: derive it from nelbo.nets.Net and call {OF_NET}",
    }.items():
        net = f"+model.encoder={{_target_:ownnets.{name},_partial_:true}}"
        words = (*SMALL, "~model.encoder", net, "allow_targets=[ownnets.]", f"hydra.run.dir={tmp_path / name}")
        done = forked(str(tmp_path / "start.py"), *words)
        assert done.returncode == 2 and done.stderr == f"error: model.encoder={name}: {hint}\n", done.stderr


def test_a_likelihood_that_was_put_in_place_of_the_groups_is_trained(tmp_path: Path) -> None:
    own = ("~likelihood", "+model.likelihood={_target_:nelbo.heads.LearnedGaussian,_partial_:true}")
    done = forked("train.py", *SMALL, "trainer=smoke", *own, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_a_reader_that_has_read_enough_is_no_error(words: list[str]) -> None:
    """`python train.py --help | head -2`: here the reader is gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_scripts_print_their_help_and_name_what_they_do_not_know(said) -> None:
    for name in ("data", "report", "replay", "contrast"):
        done = forked(f"scripts/{name}.py", "--help")
        assert done.returncode == 0 and f"python scripts/{name}.py" in done.stdout and not done.stderr
    for name, words, message in (
        ("report", "sweep=X foo=1", "foo=1: is not known here; usage: "),
        ("report", "sweeps=X", "sweeps=X: is not known here; did you mean sweep? usage: "),
        ("report", "sweep=X extra", "extra: is not known here; usage: "),
        ("replay", "bundle=X foo=1", "foo=1: is not known here; usage: "),
        ("contrast", "run=foo", "run=foo: is not known here; usage: "),
        ("contrast", "vae=foo out=x", "autoencoder=... is missing; usage: "),
        ("evaluate", "run=nope", "run=nope: no such checkpoint; give a run directory or a .ckpt file"),
        ("evaluate", "run=conf", "run=conf: conf/checkpoints/best.ckpt: no such checkpoint; give a run directory"),
        ("evaluate", "run=nope limit=0.5", "limit=0.5: must be a whole number of at least 1"),
        ("evaluate", "run=nope num_samples=0", "num_samples=0: must be a whole number of at least 1"),
        ("draw", "samples run=", "run=: no such checkpoint; give a run directory or a .ckpt file"),
    ):
        done = forked(f"scripts/{name}.py", *words.split())
        assert done.returncode == 2 and done.stderr.startswith(f"error: {message}"), done.stderr
    for name, key in (("report", "sweep"), ("replay", "bundle")):
        done = forked(f"scripts/{name}.py", "some/where")
        assert done.returncode == 2 and done.stderr.startswith(f"error: did you mean {key}=some/where? usage: ")


def test_both_directories_may_be_typed(said) -> None:
    """A cell of several processes is started as a run that knows its sweep's."""
    assert said([*SMALL_MODEL, "hydra.sweep.dir=sweep", "hydra.run.dir=sweep/cell"]) == ""
