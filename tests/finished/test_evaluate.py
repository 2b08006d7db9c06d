"""scripts/evaluate.py on real runs: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nelbo.composing.compat import hydra_options
from nelbo.evaluation import ActiveUnits
from nelbo.finished.compare import compare
from nelbo.finished.evaluate import evaluate
from nelbo.finished.evaluation_file import Results
from nelbo.finished.run import FinishedRun
from tests.helpers.forks import ROOT, Done, python, train_all

SCRIPT = "scripts/evaluate.py"
UNEVEN = ["num_samples=30", "batch_size=13", "metrics=[nll,elbo,active_units]"]
DEFAULT = {"nll", "elbo", "active_units"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, smoke_run: Path) -> Path:
    """Copies of the smoke run: `a`, `b,beta=2` under a cell's name, and a checkpoint alone; a run on binary pixels."""
    home = tmp_path_factory.mktemp("evaluate")
    for (
        name
    ) in "a b,beta=2 torn interrupted damaged other csv config npz one sweep/0-beta=2 kept kept_before shut".split():
        shutil.copytree(smoke_run, home / name)
    (home / "sweep" / "multirun.yaml").write_text("{}\n")  # what else stands in a sweep's directory
    (home / "text.txt").write_text("hello")
    (home / "csv" / "kl_per_unit.csv").write_text("epoch,unit_0\n1,0.5\n")
    (home / "config" / "config.yaml").write_text("a: [")
    (home / "npz" / "evaluation.json").write_text(json.dumps(facts_of(home / "npz")))
    (home / "npz" / "evaluation.npz").write_bytes(b"PK")
    (home / "shut" / ".evaluation.lock").mkdir()  # as good as a directory that cannot be written to, for root too
    (home / "alone").mkdir()
    (home / "logs").mkdir()
    shutil.copy(smoke_run / "checkpoints" / "last.ckpt", home / "alone" / "model.ckpt")
    file = home / "torn" / "checkpoints" / "best.ckpt"
    file.write_bytes(file.read_bytes()[:2000])
    (home / "damaged" / "evaluation.json").write_text("{")
    runs = {
        "binary": ["model=mlp_vae", "data=digits", "data.protocol=threshold", "likelihood=bernoulli", "trainer=smoke"],
        "plain": ["model=autoencoder", "data=digits", "trainer=smoke"],
        "changed": ["model=mlp_vae", "data=arrays", f"data.path={home / 'x.npy'}", "trainer=smoke"],
    }
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.save(home / "x.npy", images)
    done = train_all({name: [*run, f"hydra.run.dir={home / name}"] for name, run in runs.items()}, home / "logs")
    assert all(run.returncode == 0 for run in done.values()), done
    np.save(home / "x.npy", images[::-1])
    return home


def facts_of(run: Path) -> dict[str, object]:
    """The identity of an evaluation of a run's test images."""
    finished = FinishedRun.open(run)
    facts = {key: finished.provenance[key] for key in ("data_sha256", "protocol")}
    return {**facts, "checkpoint_sha256": finished.sha256, "split": "test", "evaluation_seed": 0}


@pytest.fixture(scope="module")
def done(home: Path) -> dict[str, Done]:
    """All calls, one after another, in forks of one process."""
    few = ["num_samples=20", "limit=50"]
    calls = {
        "whole": [f"run={home / 'a'}", "num_samples=20", "batch_size=64"],
        "more": [f"run={home / 'a'}", "metrics=[elbo]", "metrics.elbo.num_samples=3"],
        "alone": [f"run={home / 'alone' / 'model.ckpt'}", *few, "metrics=[nll]", "metrics.nll.log_weights=true"],
        "pair": [f"run=[{home / 'a'},{home / 'b,beta=2'}]", *few, f"out={home / 'pair.json'}"],
        "pattern": [f"run={home}/sweep/*", *few, "metrics=[active_units]"],
        "single": [f"run={home / 'sweep' / '0-beta=2'}", "num_samples=2", "limit=1", "metrics=[nll,elbo]"],
        "strangers": [f"run=[{home / 'a'},{home / 'binary'}]", *few, f"out={home / 'strangers.json'}"],
        "plain": [f"run={home / 'plain'}", *few],
        "other_seed": [f"run={home / 'other'}", *few, "metrics=[nll]", "seed=1"],
        "other_seed_again": [f"run={home / 'other'}", *few, "metrics=[nll]", "seed=2"],
        "one": [f"run={home / 'one'}", *UNEVEN],
        "elsewhere": [f"run={home / 'kept'}", *few, "metrics=[elbo,collapse]", f"out={home / 'new' / 'results'}"],
        "apart": [f"run=[{home / 'kept'},{home / 'shut'}]", *few, "metrics=[elbo]", f"out={home / 'both'}"],
        "val": [f"run={home / 'other'}", *few, "metrics=[elbo]", "split=val"],
        **{name: arguments for name, (arguments, _) in refused(home).items()},
    }
    return train_all(calls, home, SCRIPT)


def refused(home: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments, and the line that answers them."""
    run = f"run={home / 'a'}"
    return {
        "nothing": ([], "run: has no default; type run=..."),
        "nowhere": (
            [f"run={home}/x=1,y"],
            f"run={home}/x=1,y: no such checkpoint; give a run directory or a .ckpt file",
        ),
        "torn": ([f"run={home / 'torn'}"], "not a readable checkpoint"),
        "text": ([f"run={home / 'text.txt'}"], "text.txt: not a readable checkpoint"),
        "yaml": ([f"run={home / 'a' / 'config.yaml'}"], "config.yaml: not a readable checkpoint"),
        "csv": ([f"run={home / 'csv'}", "metrics=[elbo]"], "kl_per_unit.csv: has not 2 units in each row"),
        "config": ([f"run={home / 'config'}", "metrics=[elbo]"], "config.yaml: cannot be read"),
        "npz": ([f"run={home / 'npz'}", "metrics=[elbo]"], "evaluation.npz: cannot be read"),
        "out": (
            [f"run=[{home / 'a'},{home / 'other'}]", "out=/nowhere/x.json"],
            "/nowhere/x.json: cannot be written",
        ),
        "out_folder": ([run, f"out={home / 'text.txt'}"], "text.txt: cannot be written: File exists"),
        "shut": (
            [f"run={home / 'shut'}", "metrics=[elbo]"],
            "shut/.evaluation.lock'); out=DIRECTORY takes the results instead",
        ),
        "out_number": ([f"run=[{home / 'a'},{home / 'other'}]", "out=5"], "out=5: must be a path"),
        "out_alone": (
            [run, "out=x.json"],
            "out=x.json: is for the comparison of several runs: run=[a,b]; results of one go into a directory: out=DIR",
        ),
        "list_without_brackets": (
            [f"run={home / 'a'},{home / 'a'}"],
            f"several values are a list: 'run=[{home / 'a'},{home / 'a'}]'",
        ),
        "changed": ([f"run={home / 'changed'}"], "is not the data that it was trained on: data_sha256 was"),
        "damaged": ([f"run={home / 'damaged'}", "metrics=[elbo]"], "evaluation.json: cannot be read"),
        "unknown": (
            [run, "metrics=[fidd]"],
            "metrics=[fidd]: there is no such option; did you mean fid? choose from active_units",
        ),
        "empty": ([run, "metrics=[]"], "metrics=[]: asks for nothing"),
        "typo": ([run, "num_sample=3"], "did you mean num_samples? python scripts/evaluate.py --cfg job lists them"),
        "zero": ([run, "num_samples=0"], "error: num_samples=0: must be a whole number of at least 1"),
        "word": ([run, "limit=all"], "error: limit=all: must be a whole number of at least 1"),
        "split": ([run, "split=tset"], "split=tset: must be one of test, val, train"),
        "device": ([run, "device=tpu"], "device=tpu: must be auto, or as torch names it"),
        "seed": ([run, "seed=-1"], "seed=-1: must be a whole number of at least 0"),
        "list": (["run=[]"], "run=[]: must be a run's directory or checkpoint, or a list"),
        "sweep": (["-m", run, "num_samples=1,2"], "-m: is for training; several runs are a list: run=[a,b]"),
        "target": (
            [run, "metrics.nll._target_=nelbo.evaluation.importance"],
            "metrics.nll.limit=null: is not an option of importance",
        ),
        "hostile": ([run, "metrics.nll._target_=os.system"], "is not among the packages whose objects a config may"),
        "code": ([f"run={home / 'plain'}", "metrics=[nll]"], "nothing was measured: nll: posterior=deterministic has"),
    }


@pytest.mark.parametrize("name", refused(Path()))
def test_bad_input_is_one_line(done: dict[str, Done], home: Path, name: str) -> None:
    lines = done[name].stderr.strip().splitlines()
    assert done[name].returncode == 2 and len(lines) == 1, done[name].stderr
    assert lines[0].startswith("error: ") and refused(home)[name][1] in lines[0]


def read(home: Path, run: str) -> dict[str, object]:
    return json.loads((home / run / "evaluation.json").read_text())


def test_the_default_measures_everything_that_papers_quote(done: dict[str, Done], home: Path) -> None:
    assert done["whole"].returncode == 0, done["whole"].stderr
    for told in ("nll", "rate", "distortion", "active_units", "ess", "written", "± "):
        assert told in done["whole"].stdout


def test_results_are_flat_and_say_what_they_are_of(done: dict[str, Done], home: Path) -> None:
    found = read(home, "alone")
    assert found["protocol"] == "raw" and found["data"] == "digits" and found["split"] == "test"
    assert found["checkpoint"] == "model.ckpt" and len(str(found["checkpoint_sha256"])) == 64
    assert found["test/nll_samples"] == 20 and found["test/nll_images"] == 50 and found["evaluation_seed"] == 0
    assert isinstance(found["test/nll"], float) and math.isfinite(found["test/nll"])
    arrays = np.load(home / "alone" / "evaluation.npz")
    assert arrays["test/nll"].shape == (50,) and arrays["test/log_weights"].shape == (50, 20)
    assert math.isclose(arrays["test/nll"].mean(), found["test/nll"], rel_tol=1e-6)
    assert not (home / "alone" / "tensorboard").exists()


def test_a_later_call_replaces_its_own_values_and_keeps_the_others(done: dict[str, Done], home: Path) -> None:
    assert done["more"].returncode == done["pair"].returncode == 0, done["more"].stderr
    found = read(home, "a")
    assert set(found["measures"]) == DEFAULT  # type: ignore[call-overload]
    assert found["test/nll_images"] == 50  # the last call of three
    assert done["whole"].stdout.count("297") and "10" in done["pair"].stdout


def test_another_seed_or_split_sets_the_earlier_file_aside(done: dict[str, Done], home: Path) -> None:
    seeds = [json.loads((home / "other" / f"evaluation-{n}.json").read_text())["evaluation_seed"] for n in (1, 2)]
    assert seeds == [1, 2]
    now = read(home, "other")
    assert now["split"] == "val" and "val/nelbo" in now and "test/nll" not in now
    assert sorted(np.load(home / "other" / "evaluation-1.npz").files) == ["test/ess", "test/nll"]


def test_the_same_call_gives_the_same_numbers(done: dict[str, Done], home: Path) -> None:
    """`a` and `b` hold the same checkpoint."""
    compared = json.loads((home / "pair.json").read_text())
    assert compared["runs"] == ["a", "b,beta=2"] and not compared["notes"]
    ours, theirs = (compared["values"]["test/nll"][run] for run in compared["runs"])
    assert ours["value"] == theirs["value"] and theirs["difference"] == theirs["difference_error"] == 0


def test_paired_differences_are_of_the_same_images(done: dict[str, Done], home: Path) -> None:
    results = {name: Results(home / name, facts_of(home / name)) for name in ("a", "b,beta=2")}  # type: ignore[arg-type]
    second = results["b,beta=2"]
    second.arrays["test/nll"] = second.arrays["test/nll"] + torch.linspace(0, 1, 50)
    cell = compare(results).rows["test/nll"][1]
    assert cell is not None and cell.difference is not None and cell.difference_error is not None
    assert math.isclose(cell.difference, 0.5, abs_tol=1e-6)
    assert math.isclose(cell.difference_error, np.linspace(0, 1, 50).std(ddof=1) / math.sqrt(50), rel_tol=1e-6)
    assert compare(results).rows["test/active_units"][1].difference == 0  # type: ignore[union-attr]
    second.measures["nll"]["settings"] = {**second.measures["nll"]["settings"], "limit": 40}
    second.measures["elbo"]["recipe"] = {"elbo_samples": 50}
    other = compare(results)
    assert other.rows["test/nll"][1].difference is None  # type: ignore[union-attr]
    assert other.notes == [
        "no differences in nll: measured in different ways: a limit=50; b,beta=2 limit=40",
        "no differences in elbo: measured in different ways: a elbo_samples=10; b,beta=2 elbo_samples=50",
    ]


def test_different_protocols_are_named_and_not_subtracted(done: dict[str, Done], home: Path) -> None:
    assert done["strangers"].returncode == 0, done["strangers"].stderr
    compared = json.loads((home / "strangers.json").read_text())
    assert compared["values"]["test/nelbo"]["binary"]["difference"] is None
    assert "different protocol" in compared["notes"][0] and "threshold" in compared["notes"][0]
    assert "different protocol" in done["strangers"].stdout


def test_a_pattern_finds_cells(done: dict[str, Done], home: Path) -> None:
    assert done["pattern"].returncode == 0, done["pattern"].stderr
    assert "active_units" in done["pattern"].stdout


def test_one_image_has_no_standard_error_and_the_file_is_json(done: dict[str, Done], home: Path) -> None:
    assert done["single"].returncode == 0, done["single"].stderr
    file = home / "sweep" / "0-beta=2" / "evaluation.json"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(file.read_text(), parse_constant=refuse)
    assert "test/nll" in found and "test/nll_se" not in found and "nan" not in done["single"].stdout


def test_what_has_no_meaning_is_left_out_and_said(done: dict[str, Done], home: Path) -> None:
    assert done["plain"].returncode == 0, done["plain"].stderr
    assert "left out   nll: posterior=deterministic has no log q(z|x)" in done["plain"].stdout
    assert {"test/distortion", "test/active_units"} < read(home, "plain").keys()
    assert "test/nelbo" not in read(home, "plain")


def test_tensorboard_shows_it_below_evaluation_and_leaves_the_runs_own_metrics_alone(
    done: dict[str, Done], home: Path
) -> None:
    """The hparams tab takes the last `test/nelbo`; four evaluations of other images and samples have been written."""
    events = EventAccumulator(str(home / "a" / "tensorboard"))
    events.Reload()
    (first, *_) = events.Scalars("evaluation/test/nll")
    assert first.step == read(home, "a")["checkpoint_step"] > 0
    (own,) = events.Scalars("test/nelbo")
    metrics = json.loads((home / "a" / "metrics.json").read_text())
    assert own.value == pytest.approx(metrics["test/nelbo"], rel=1e-6)
    assert len(events.Scalars("evaluation/test/nelbo")) == 4
    tags = {tag.removeprefix("evaluation/test/") for tag in events.Tags()["scalars"] if tag.startswith("evaluation/")}
    assert {"nll", "nll_se", "nll_at_10", "rate", "distortion", "active_units"} <= tags
    assert not {tag for tag in tags if tag.endswith(("_samples", "_images"))}


def test_a_run_that_is_read_only_is_evaluated_into_another_directory(done: dict[str, Done], home: Path) -> None:
    assert done["elsewhere"].returncode == 0, done["elsewhere"].stderr
    results = home / "new" / "results"
    assert {"test/nelbo", "test/collapse_active_units"} < read(home, "new/results").keys()
    assert (results / "evaluation.npz").is_file() and (results / "pictures" / "test_collapse.png").is_file()
    assert f"written    {os.path.relpath(results / 'evaluation.json')}" in done["elsewhere"].stdout
    assert done["apart"].returncode == 0, done["apart"].stderr
    assert {"test/nelbo"} < read(home, "both/kept").keys() & read(home, "both/shut").keys()
    compared = json.loads((home / "both" / "comparison.json").read_text())
    assert compared["values"]["test/nelbo"]["shut"]["difference"] == 0

    def content(folder: Path) -> dict[str, bytes]:
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    assert content(home / "kept") == content(home / "kept_before")


def test_two_processes_say_what_one_says(done: dict[str, Done], home: Path, smoke_run: Path) -> None:
    """With a batch size that does not divide the 297 images, and the exchange through gloo."""
    shutil.copytree(smoke_run, home / "two")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", SCRIPT]
    shared = python(*torchrun, f"run={home / 'two'}", *UNEVEN)
    assert done["one"].returncode == shared.returncode == 0, shared.stderr
    one, two = (np.load(home / name / "evaluation.npz") for name in ("one", "two"))
    assert one.files == two.files and all(np.array_equal(one[key], two[key]) for key in one.files)
    assert one["test/nll"].shape == (297,)
    assert shared.stdout.count("written") == 1


def test_memory_does_not_grow_with_the_samples(smoke_run: Path) -> None:
    code = (
        "import resource, torch, nelbo\n"
        "from nelbo.evaluation import importance\n"
        f"vae, x = nelbo.load({str(smoke_run)!r}), torch.rand(100, 1, 8, 8)\n"
        "def peak(samples):\n"
        "    importance(vae, x, samples)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(peak(200), peak(5000))\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    few, many = map(float, done.stdout.split())
    assert many - few < 20  # 100 x 4,800 x 64 more pixels are 117 MiB


def test_interrupted_evaluations_keep_what_they_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: ActiveUnits, subject: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ActiveUnits, "__call__", interrupt)
    with initialize_config_dir(str(ROOT / "conf"), **hydra_options()):
        config = compose("evaluate", overrides=[f"run={home / 'interrupted'}", "num_samples=5", "limit=20"])
    with pytest.raises(SystemExit) as ended:
        evaluate(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    assert ended.value.code == 130 and "interrupted" in capsys.readouterr().err
    assert set(read(home, "interrupted")["measures"]) == {"nll", "elbo"}  # type: ignore[call-overload]
