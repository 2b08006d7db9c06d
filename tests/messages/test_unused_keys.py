"""Keys that nothing reads are refused, and those that are interpolated are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers.command_lines import SMALL_MODEL
from tests.helpers.forks import forked

SMALL = (*SMALL_MODEL, "trainer=smoke", "callbacks=none", "logger=none")


def test_a_key_that_nothing_reads_is_refused_and_an_interpolated_one_is_not(message_for: Callable[..., str]) -> None:
    for override, hint in (
        ("+beta=4", "did you mean objective.beta?"),
        ("+lr=10", "did you mean optimizer.lr?"),
        ("++epochs=7", "did you mean trainer.max_epochs?"),
        ("+ckpt_path=x", "did you mean resume"),
        ("+my=3", "a key of your own must be used by another value, as ${my}"),
        ("+my.own=3", "a key of your own must be used by another value, as ${my}"),
        ("+budget.foo=3", "a key of your own must be used by another value, as ${budget.foo}"),
        ("+experiment.model=3", "a file of experiment begins with the line '# @package _global_'"),
    ):
        message = message_for(override)
        assert message.startswith(f"{override}: nothing reads this key; {hint}"), message
    # An interpolation of another key with the same last part.
    assert message_for("+beta=4 'seed=${objective.beta}'").startswith("+beta=4: nothing reads")
    for line in (
        "+my=3 'model.latent_dim=${my}'",
        "+my.own=3 'model.latent_dim=${my.own}'",
        "+my=3 'model.latent_dim=${oc.select:my,4}'",
        "+my=3 '+her=${my}' 'model.latent_dim=${..her}' hydra.run.dir=x",
        "+budget.latents=3 'model.latent_dim=${budget.latents}'",
    ):
        assert message_for(line) == "", line


def test_a_key_that_nothing_reads_stops_a_run_and_a_sweep_before_they_begin(tmp_path: Path) -> None:
    done = forked("train.py", *SMALL, "+beta=4", f"hydra.run.dir={tmp_path / 'run'}")
    expected = "error: +beta=4: nothing reads this key; did you mean objective.beta?"
    assert done.returncode == 2 and done.stderr.startswith(expected) and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run" / "checkpoints").exists()
    done = forked("train.py", "-m", *SMALL, "+beta=1,4", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stderr.startswith("error: +beta=1,4: nothing reads this key"), done.stderr
    assert not list((tmp_path / "sweep").glob("*/cell.json"))


def test_a_users_config_may_have_keys_of_its_own_for_interpolation(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\nmy:\n  size: 3\nmodel:\n  latent_dim: ${my.size}\n")
    arguments = ("--config-dir", str(tmp_path / "conf"), *SMALL, "experiment=mine")
    done = forked("train.py", *arguments, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    file.write_text("model:\n  latent_dim: 3\n")  # without the first line
    done = forked("train.py", *arguments, f"hydra.run.dir={tmp_path / 'other'}")
    assert done.returncode == 2 and "experiment.model=...: nothing reads this key; a file of experiment" in done.stderr
