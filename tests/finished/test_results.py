"""evaluation.json and .npz: nothing lost that is still true, nothing kept that is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from nelbo.evaluation.measure import Findings
from nelbo.finished.evaluation_file import Results
from tests.helpers.findings import FACTS, make_findings


def results(folder: Path, checkpoint: str = "a") -> Results:
    return Results(folder, {**FACTS, "checkpoint_sha256": checkpoint})


def read(folder: Path, name: str = "evaluation") -> dict[str, object]:
    return json.loads((folder / f"{name}.json").read_text())


def keys(folder: Path, name: str = "evaluation") -> list[str]:
    with np.load(folder / f"{name}.npz") as arrays:
        return sorted(arrays.files)


def test_a_measure_replaces_its_own_values_alone(tmp_path: Path) -> None:
    results(tmp_path).add("nll", make_findings(nll=1.0, nll_at_10=2.0), {}, 0)
    results(tmp_path).add("elbo", make_findings(rate=3.0), {}, 0)
    results(tmp_path).add("nll", make_findings(nll=4.0), {}, 0)
    now = read(tmp_path)
    assert (now["test/nll"], now["test/rate"]) == (4.0, 3.0) and "test/nll_at_10" not in now
    assert keys(tmp_path) == ["test/nll", "test/rate"]


def test_two_that_began_together_keep_both(tmp_path: Path) -> None:
    first, second = results(tmp_path), results(tmp_path)
    first.add("nll", make_findings(nll=1.0), {}, 0)
    second.add("elbo", make_findings(rate=2.0), {}, 0)
    first.add("fid", make_findings(fid=3.0), {}, 0)
    assert {"test/nll", "test/rate", "test/fid"} < read(tmp_path).keys()
    assert keys(tmp_path) == ["test/fid", "test/nll", "test/rate"]


def test_two_checkpoints_of_one_folder_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    best, last = results(tmp_path, "best"), results(tmp_path, "last")
    best.add("nll", make_findings(nll=1.0), {}, 0)
    last.add("nll", make_findings(nll=2.0), {}, 0)
    assert (read(tmp_path)["test/nll"], read(tmp_path, "evaluation-1")["test/nll"]) == (2.0, 1.0)
    best.add("elbo", make_findings(rate=3.0), {}, 0)  # its values come back to the front
    assert read(tmp_path)["test/nll"] == 1.0 and read(tmp_path)["test/rate"] == 3.0
    others = [json.loads(file.read_text()) for file in tmp_path.glob("evaluation-*.json")]
    assert [other["test/nll"] for other in others] == [2.0]
    assert results(tmp_path, "last").values["test/nll"] == 2.0


def test_values_of_images_go_with_their_numbers(tmp_path: Path) -> None:
    results(tmp_path, "a").add("nll", make_findings(nll=1.0), {}, 0)
    results(tmp_path, "b").add("active_units", Findings({"active_units": 3}), {}, 0)
    assert not (tmp_path / "evaluation.npz").exists()
    assert keys(tmp_path, "evaluation-1") == ["test/nll"]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    results(tmp_path).add("nll", Findings({"nll": math.inf}), {"settings": [math.nan]}, 0)
    assert read(tmp_path)["test/nll"] is None
