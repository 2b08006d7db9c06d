"""The records of results: reading, adding and replacing them, and what they take from a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nelbo.errors import DataError
from nelbo.papers.records import add_record, compared, identifier, make_record, read_records
from nelbo.papers.rows import ROWS

ENVIRONMENT = {
    **{"nelbo": "0.1.0", "torch": "2.13.0", "lightning": "2.6.6", "hydra": "1.4.0", "python": "3.11.7"},
    **{"commit": "a" * 40, "processor": "a processor", "accelerator": None, "processes": 1},
}
METRICS = {"environment": ENVIRONMENT, "seed": 3, "threads": 2, "train_seconds": 10.04, "train_cpu_seconds": None}
METRICS |= {"epochs": 2, "steps": 9}
SECONDS = {"evaluation_seconds": 1.26, "evaluation_cpu_seconds": 1.0}


def evaluation(commit: str | None = "a" * 40) -> dict[str, Any]:
    measure = {"environment": ENVIRONMENT | {"commit": commit}, "warnings": ["nll: a tail"]}
    values = {"test/nll": 87.0, "test/nll_se": 0.25, "test/nelbo": 90.0, "test/nelbo_se": 0.3, "test/ess": 2.0}
    return {**values, "test/bits_per_dim": 3.0, "measures": {"elbo": measure | {"warnings": []}, "nll": measure}}


def record(**changes: Any) -> dict[str, Any]:
    return make_record(ROWS["burda2016_vae"], "a command", {}, METRICS | changes, evaluation(), SECONDS)


def test_a_record_says_what_was_measured_with_what() -> None:
    made = record()
    assert made["id"] == "burda2016_vae" and made["command"] == "a command" and made["commit"] == "a" * 40
    assert not made["modified"] and made["versions"]["torch"] == "2.13.0" and made["machine"] == "a processor"
    assert (made["seed"], made["threads"], made["train_cpu_seconds"], made["evaluation_seconds"]) == (3, 2, None, 1.3)
    assert made["warnings"] == ["nll: a tail"] and made["values"]["nll_se"] == 0.25 and "ess" not in made["values"]
    assert "evaluation_commit" not in made and "resumed" not in made
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(("trained", "evaluated"), [("+changes", ""), ("", "+changes"), ("+changes", "+changes")])
def test_a_record_of_modified_code_says_so(trained: str, evaluated: str) -> None:
    metrics = METRICS | {"environment": ENVIRONMENT | {"commit": "a" * 40 + trained}}
    made = make_record(ROWS["burda2016_vae"], "", {}, metrics, evaluation("a" * 40 + evaluated), SECONDS)
    assert made["modified"] is True and made["commit"] == "a" * 40


def test_another_commit_of_the_evaluation_and_resuming_are_recorded() -> None:
    made = make_record(ROWS["burda2016_vae"], "", {}, METRICS | {"resumed": [1]}, evaluation("b" * 40), SECONDS)
    assert made["evaluation_commit"] == "b" * 40 and made["resumed"] == [1] and made["modified"] is False
    unknown = METRICS | {"environment": ENVIRONMENT | {"commit": None}}  # outside a checkout
    made = make_record(ROWS["burda2016_vae"], "", {}, unknown, evaluation(None), SECONDS)
    assert made["commit"] is None and made["modified"] is False


def test_a_shorter_evaluation_or_another_seed_has_another_id() -> None:
    row = ROWS["ladder2016"]
    given = [{}, {"threads": 1}, {"limit": 5}, {"num_samples": 5}, {"seed": 0}, {"limit": 5, "num_samples": 5}]
    ids = [identifier(row, settings) for settings in given]
    assert ids[:2] == ["ladder2016", "ladder2016"] and len(set(ids)) == 5


def test_the_gap_is_above_the_published_number_and_bits_scale_the_error_of_nats() -> None:
    ours, error, gap = compared(ROWS["burda2016_vae"], record())
    assert (ours, error, gap) == (87.0, 0.25, pytest.approx(87.0 - 86.76))
    ours, error, gap = compared(ROWS["vdvae_cifar10"], record())
    assert (ours, error, gap) == (3.0, pytest.approx(0.3 * 3 / 90), pytest.approx(0.13))


def test_records_are_added_and_replaced_in_place(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    assert read_records(file) == []
    for number, name in enumerate("aba"):
        assert add_record(file, {"id": name, "number": number}) is (number == 2)
    assert read_records(file) == [{"id": "a", "number": 2}, {"id": "b", "number": 1}]
    assert sorted(one.name for one in file.parent.iterdir()) == [".results.json.lock", "results.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"row": "a"}]'])
def test_a_damaged_file_is_refused_and_kept(text: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(DataError, match="repair it or move it away"):
        add_record(file, {"id": "a"})
    assert file.read_text() == text
