"""scripts/evaluate.py on real runs: the results that it writes, keeps and compares."""

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
from tests.helpers.evaluations import SCRIPT, copy_run, facts_of, train_smoke
from tests.helpers.forks import ROOT, Done, python, train_all

UNEVEN = ["num_samples=30", "batch_size=13", "metrics=[nll,elbo,active_units]"]
DEFAULT = {"nll", "elbo", "active_units"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, smoke_run: Path) -> Path:
    """Copies of the smoke run, one of them named like a cell; a checkpoint alone; a run with binary pixels."""
    home = tmp_path_factory.mktemp("evaluate")
    copy_run(smoke_run, home, "a b,beta=2 interrupted other one sweep/0-beta=2 kept kept_before shut".split())
    (home / "sweep" / "multirun.yaml").write_text("{}\n")  # another file in the directory of a sweep
    (home / "shut" / ".evaluation.lock").mkdir()  # acts like a read-only directory, for root too
    (home / "alone").mkdir()
    shutil.copy(smoke_run / "checkpoints" / "last.ckpt", home / "alone" / "model.ckpt")
    binary = ["model=mlp_vae", "data=digits", "data.protocol=threshold", "likelihood=bernoulli"]
    train_smoke(home, {"binary": binary, "plain": ["model=autoencoder", "data=digits"]})
    return home


@pytest.fixture(scope="module")
def done(home: Path) -> dict[str, Done]:
    """The ends of all evaluations, which run one after another in forks of one process."""
    few = ["num_samples=20", "limit=50"]
    calls = {
        "whole": [f"run={home / 'a'}", "num_samples=20", "batch_size=64"],
        "more": [f"run={home / 'a'}", "metrics=[elbo]", "metrics.elbo.num_samples=3"],
        "alone": [f"run={home / 'alone' / 'model.ckpt'}", *few, "metrics=[nll]", "metrics.nll.log_weights=true"],
        "pair": [f"run=[{home / 'a'},{home / 'b,beta=2'}]", *few, f"out={home / 'pair.json'}"],
        "pattern": [f"run={home}/sweep/*", *few, "metrics=[active_units]"],
        "single": [f"run={home / 'sweep' / '0-beta=2'}", "num_samples=2", "limit=1", "metrics=[nll,elbo]"],
        "different": [f"run=[{home / 'a'},{home / 'binary'}]", *few, f"out={home / 'different.json'}"],
        "plain": [f"run={home / 'plain'}", *few],
        "other_seed": [f"run={home / 'other'}", *few, "metrics=[nll]", "seed=1"],
        "other_seed_again": [f"run={home / 'other'}", *few, "metrics=[nll]", "seed=2"],
        "one": [f"run={home / 'one'}", *UNEVEN],
        "elsewhere": [f"run={home / 'kept'}", *few, "metrics=[elbo,collapse]", f"out={home / 'new' / 'results'}"],
        "apart": [f"run=[{home / 'kept'},{home / 'shut'}]", *few, "metrics=[elbo]", f"out={home / 'both'}"],
        "val": [f"run={home / 'other'}", *few, "metrics=[elbo]", "split=val"],
    }
    return train_all(calls, home, SCRIPT)


def read(home: Path, run: str) -> dict[str, object]:
    return json.loads((home / run / "evaluation.json").read_text())


def test_the_default_measures_report_what_papers_quote(done: dict[str, Done], home: Path) -> None:
    assert done["whole"].returncode == 0, done["whole"].stderr
    for text in ("nll", "rate", "distortion", "active_units", "ess", "written", "± "):
        assert text in done["whole"].stdout


def test_results_are_flat_and_have_the_facts_they_belong_to(done: dict[str, Done], home: Path) -> None:
    results = read(home, "alone")
    assert results["protocol"] == "raw" and results["data"] == "digits" and results["split"] == "test"
    assert results["checkpoint"] == "model.ckpt" and len(str(results["checkpoint_sha256"])) == 64
    assert results["test/nll_samples"] == 20 and results["test/nll_images"] == 50 and results["evaluation_seed"] == 0
    assert isinstance(results["test/nll"], float) and math.isfinite(results["test/nll"])
    arrays = np.load(home / "alone" / "evaluation.npz")
    assert arrays["test/nll"].shape == (50,) and arrays["test/log_weights"].shape == (50, 20)
    assert math.isclose(arrays["test/nll"].mean(), results["test/nll"], rel_tol=1e-6)
    assert not (home / "alone" / "tensorboard").exists()


def test_a_later_call_replaces_its_own_values_and_keeps_the_others(done: dict[str, Done], home: Path) -> None:
    assert done["more"].returncode == done["pair"].returncode == 0, done["more"].stderr
    results = read(home, "a")
    assert set(results["measures"]) == DEFAULT  # type: ignore[call-overload]
    assert results["test/nll_images"] == 50  # from the last of three calls
    assert done["whole"].stdout.count("297") and "10" in done["pair"].stdout


def test_another_seed_or_split_sets_the_earlier_file_aside(done: dict[str, Done], home: Path) -> None:
    seeds = [json.loads((home / "other" / f"evaluation-{n}.json").read_text())["evaluation_seed"] for n in (1, 2)]
    assert seeds == [1, 2]
    current = read(home, "other")
    assert current["split"] == "val" and "val/nelbo" in current and "test/nll" not in current
    assert sorted(np.load(home / "other" / "evaluation-1.npz").files) == ["test/ess", "test/nll"]


def test_the_same_checkpoint_gets_the_same_values(done: dict[str, Done], home: Path) -> None:
    """The runs `a` and `b` have the same checkpoint."""
    compared = json.loads((home / "pair.json").read_text())
    assert compared["runs"] == ["a", "b,beta=2"] and not compared["notes"]
    first, second = (compared["values"]["test/nll"][run] for run in compared["runs"])
    assert first["value"] == second["value"] and second["difference"] == second["difference_error"] == 0


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
    assert done["different"].returncode == 0, done["different"].stderr
    compared = json.loads((home / "different.json").read_text())
    assert compared["values"]["test/nelbo"]["binary"]["difference"] is None
    assert "different protocol" in compared["notes"][0] and "threshold" in compared["notes"][0]
    assert "different protocol" in done["different"].stdout


def test_a_pattern_matches_the_cells_of_a_sweep(done: dict[str, Done], home: Path) -> None:
    assert done["pattern"].returncode == 0, done["pattern"].stderr
    assert "active_units" in done["pattern"].stdout


def test_one_image_has_no_standard_error_and_the_file_is_json(done: dict[str, Done], home: Path) -> None:
    assert done["single"].returncode == 0, done["single"].stderr
    file = home / "sweep" / "0-beta=2" / "evaluation.json"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    results = json.loads(file.read_text(), parse_constant=refuse)
    assert "test/nll" in results and "test/nll_se" not in results and "nan" not in done["single"].stdout


def test_a_measure_without_meaning_is_left_out_with_a_message(done: dict[str, Done], home: Path) -> None:
    assert done["plain"].returncode == 0, done["plain"].stderr
    assert "left out   nll: posterior=deterministic has no log q(z|x)" in done["plain"].stdout
    assert {"test/distortion", "test/active_units"} < read(home, "plain").keys()
    assert "test/nelbo" not in read(home, "plain")


def test_tensorboard_has_the_results_below_evaluation_and_the_runs_own_metrics_unchanged(
    done: dict[str, Done], home: Path
) -> None:
    """The hparams tab shows the last `test/nelbo`; four evaluations with other images and samples are written."""
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


def test_a_read_only_run_is_evaluated_into_another_directory(done: dict[str, Done], home: Path) -> None:
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


def test_two_processes_give_the_results_of_one(done: dict[str, Done], home: Path, smoke_run: Path) -> None:
    """With a batch size that does not divide the number of images, 297."""
    shutil.copytree(smoke_run, home / "two")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", SCRIPT]
    shared = python(*torchrun, f"run={home / 'two'}", *UNEVEN)
    assert done["one"].returncode == shared.returncode == 0, shared.stderr
    one, two = (np.load(home / name / "evaluation.npz") for name in ("one", "two"))
    assert one.files == two.files and all(np.array_equal(one[key], two[key]) for key in one.files)
    assert one["test/nll"].shape == (297,)
    assert shared.stdout.count("written") == 1


def test_memory_does_not_grow_with_the_number_of_samples(smoke_run: Path) -> None:
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
    assert many - few < 20  # MiB; 100 x 4,800 x 64 more pixels would take 117


def test_interrupted_evaluations_keep_their_results(
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
