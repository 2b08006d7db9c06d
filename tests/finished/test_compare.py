"""Which values of several runs are compared, and which are subtracted."""

from __future__ import annotations

from pathlib import Path

import torch

from nelbo.evaluation.measure import Findings
from nelbo.finished.compare import compare
from nelbo.finished.evaluation_file import Results

FACTS = {"checkpoint_sha256": "a", "data_sha256": "d", "protocol": "raw", "split": "test", "evaluation_seed": 0}


def results(folder: Path, nelbo: list[float], **more: float) -> Results:
    folder.mkdir()
    result = Results(folder, {**FACTS, "test_images": 3})
    values = torch.tensor(nelbo)
    result.add("nll", Findings({"nll": values.mean().item(), **more}, {"nll": values}), {}, 0)
    return result


def test_means_of_different_images_are_not_subtracted(tmp_path: Path) -> None:
    """The means are shown, but have no difference."""
    three = results(tmp_path / "three", [1.0, 2.0, 3.0])
    two = results(tmp_path / "two", [1.0, 3.0])
    other = results(tmp_path / "other", [2.0, 2.0, 5.0])
    row = compare({"three": three, "two": two, "other": other}).rows["test/nll"]
    assert [cell.value for cell in row if cell] == [2.0, 2.0, 3.0]
    assert [cell.difference for cell in row if cell] == [None, None, 1.0]


def test_details_of_a_measure_have_no_rows(tmp_path: Path) -> None:
    details = {"nll_at_10": 4.0, "nll_se": 0.1, "nll_images": 3, "nll_gain": 0.2}
    pair = {name: results(tmp_path / name, [1.0, 2.0, 3.0], **details, ess=7.0) for name in ("a", "b")}
    assert list(compare(pair).rows) == ["test/nll", "test/ess"]
