"""scripts/evaluate.py with bad input: one line that names the key, the value and a hint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.evaluations import SCRIPT, copy_run, facts_of, train_smoke
from tests.helpers.forks import Done, train_all


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, smoke_run: Path) -> Path:
    """Copies of the smoke run, most of them damaged; a plain autoencoder, and a run whose data have changed."""
    home = tmp_path_factory.mktemp("evaluate")
    copy_run(smoke_run, home, "a torn damaged other csv config npz shut".split())
    (home / "text.txt").write_text("hello")
    (home / "csv" / "kl_per_unit.csv").write_text("epoch,unit_0\n1,0.5\n")
    (home / "config" / "config.yaml").write_text("a: [")
    (home / "npz" / "evaluation.json").write_text(json.dumps(facts_of(home / "npz")))
    (home / "npz" / "evaluation.npz").write_bytes(b"PK")
    (home / "shut" / ".evaluation.lock").mkdir()  # acts like a read-only directory, for root too
    file = home / "torn" / "checkpoints" / "best.ckpt"
    file.write_bytes(file.read_bytes()[:2000])
    (home / "damaged" / "evaluation.json").write_text("{")
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    np.save(home / "x.npy", images)
    changed = ["model=mlp_vae", "data=arrays", f"data.path={home / 'x.npy'}"]
    train_smoke(home, {"plain": ["model=autoencoder", "data=digits"], "changed": changed})
    np.save(home / "x.npy", images[::-1])
    return home


def cases(home: Path) -> dict[str, tuple[list[str], str]]:
    """Invalid arguments, and a part of the message for them."""
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
        "csv": ([f"run={home / 'csv'}", "metrics=[elbo]"], "kl_per_unit.csv: does not have 2 units in each row"),
        "config": ([f"run={home / 'config'}", "metrics=[elbo]"], "config.yaml: cannot be read"),
        "npz": ([f"run={home / 'npz'}", "metrics=[elbo]"], "evaluation.npz: cannot be read"),
        "out": (
            [f"run=[{home / 'a'},{home / 'other'}]", "out=/nowhere/x.json"],
            "/nowhere/x.json: cannot be written",
        ),
        "out_folder": ([run, f"out={home / 'text.txt'}"], "text.txt: cannot be written: File exists"),
        "shut": (
            [f"run={home / 'shut'}", "metrics=[elbo]"],
            "shut/.evaluation.lock'); out=DIRECTORY writes the results elsewhere",
        ),
        "out_number": ([f"run=[{home / 'a'},{home / 'other'}]", "out=5"], "out=5: must be a path"),
        "out_alone": (
            [run, "out=x.json"],
            "out=x.json: is for the comparison of several runs: run=[a,b]; for one run give a directory: out=DIR",
        ),
        "list_without_brackets": (
            [f"run={home / 'a'},{home / 'a'}"],
            f"several values are a list: 'run=[{home / 'a'},{home / 'a'}]'",
        ),
        "changed": ([f"run={home / 'changed'}"], "is not the data that it was trained on: data_sha256 was"),
        "damaged": ([f"run={home / 'damaged'}", "metrics=[elbo]"], "evaluation.json: cannot be read"),
        "unknown": (
            [run, "metrics=[fidd]"],
            "metrics=[fidd]: there is no such option; did you mean fid? choose from accuracy, active_units",
        ),
        "empty": ([run, "metrics=[]"], "metrics=[]: must name at least one"),
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


@pytest.fixture(scope="module")
def done(home: Path) -> dict[str, Done]:
    """The ends of all commands."""
    return train_all({name: arguments for name, (arguments, _) in cases(home).items()}, home, SCRIPT)


@pytest.mark.parametrize("name", cases(Path()))
def test_bad_input_is_one_line(done: dict[str, Done], home: Path, name: str) -> None:
    lines = done[name].stderr.strip().splitlines()
    assert done[name].returncode == 2 and len(lines) == 1, done[name].stderr
    assert lines[0].startswith("error: ") and cases(home)[name][1] in lines[0]
