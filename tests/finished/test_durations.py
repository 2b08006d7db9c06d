"""`limit=` caps every measure, and each long task is announced with an estimate of its duration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nelbo.evaluation.measure import Subject
from nelbo.finished.durations import LEAST, Durations, in_words
from tests.helpers.measures import NAMES, active_vae, digits_for, distinct, make_digits, make_measures, run_measure
from tests.helpers.subjects import TensorSplit

LIMIT = 60


class Watched(TensorSplit):
    """A split that records which of its images were taken."""

    def __init__(self, split: TensorSplit) -> None:
        super().__init__(split.images, split.labels, split.factors)
        object.__setattr__(self, "positions", [])

    def __getitem__(self, positions: Tensor) -> Tensor:
        self.positions.append(positions)  # type: ignore[attr-defined]
        return super().__getitem__(positions)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_limit_caps_every_measure(name: str) -> None:
    subject = digits_for(name)
    watched = Watched(subject.splits["test"])  # type: ignore[arg-type]
    measure = make_measures(f"limit={LIMIT}")[name]
    # `images` is also the validation split, for measures that use held-out images.
    findings = run_measure(measure, replace(subject, splits={**subject.splits, "test": watched, "val": subject.images}))
    assert distinct(watched.positions) == LIMIT  # type: ignore[attr-defined]
    assert name != "ais" or findings.values["ais_simulated_images"] == LIMIT


def test_slow_measures_have_limits_of_their_own_and_typed_limits_win() -> None:
    def limits(*overrides: str) -> dict[str, int | None]:
        made = make_measures(*overrides)
        return {name: made[name].limit for name in ("nll", "ais", "gaps", "silhouette", "udr")}  # type: ignore[union-attr]

    assert limits() == {"nll": None, "ais": 100, "gaps": 200, "silhouette": 5000, "udr": 10_000}
    assert limits("limit=1000") == {"nll": 1000, "ais": 100, "gaps": 200, "silhouette": 1000, "udr": 1000}
    assert limits("limit=50", "metrics.gaps.limit=70")["gaps"] == 70
    assert limits("metrics.ais.limit=null")["ais"] is None


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_announces_its_duration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that advances by a minute each time it is read, and no least duration."""
    monkeypatch.setattr("nelbo.finished.durations.LEAST", 0.0)
    lines: list[str] = []
    minutes = iter(range(10**6))
    durations = Durations(lines.append, lambda: 60.0 * next(minutes))
    durations.begin()
    run_measure(make_measures()[name], digits_for(name, watch=durations.watch, expect=durations.expect))
    assert lines and all(line.startswith("takes      ") and ": about " in line for line in lines)


def test_work_after_the_last_image_is_estimated_from_a_trial_with_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("representation", "sample_quality"):
        monkeypatch.setattr(f"nelbo.evaluation.{module}.TRIAL", 20)
    monkeypatch.setattr("nelbo.evaluation.sample_quality.FEW_FEATURES", 8)
    measures, model, tasks = make_measures("limit=40"), active_vae(), list[str]()
    expected = {
        "ais": ["ais"],
        "gaps": ["gaps"],
        "silhouette": ["silhouette"],
        "probe": ["probe, fit", "probe, tested images"],
        "knn": ["knn, fit", "knn, tested images"],
        "fid": ["fid, covariances"],
        "kid": ["kid"],
        "prdc": ["prdc"],
    }
    for name, announced in expected.items():
        tasks.clear()
        findings = run_measure(measures[name], make_digits(model, expect=lambda task, seconds: tasks.append(task)))
        assert tasks == announced
        assert findings.values == run_measure(measures[name], make_digits(model)).values  # a trial changes no value


def test_the_duration_of_a_trial_is_scaled_to_the_whole_task(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([5.0, 7.5])
    monkeypatch.setattr("nelbo.evaluation.measure.time.perf_counter", lambda: next(now))
    announced: list[tuple[str, float]] = []
    subject: Subject = make_digits(expect=lambda task, seconds: announced.append((task, seconds)))
    subject.estimate_duration("whole task", 16, lambda: None)
    subject.estimate_duration("not longer than the trial", 1, lambda: pytest.fail("was tried"))
    replace(subject, expect=None).estimate_duration("estimates are off", 16, lambda: pytest.fail("was tried"))
    assert announced == [("whole task", 40.0)]


def test_the_estimate_uses_the_second_batch() -> None:
    """The first batch may include one-off work."""
    lines: list[str] = []
    now = [0.0]
    durations = Durations(lines.append, lambda: now[0])

    def watch(seconds: float, task: str, done: int, total: int) -> None:
        now[0] += seconds
        durations.watch(task, done, total)

    durations.begin()
    watch(9, "codes", 1, 101)
    assert not lines
    watch(2, "codes", 2, 101)
    assert lines == ["takes      codes: about 3 min"]  # 99 batches of 2 seconds
    watch(500, "codes", 101, 101)
    assert len(lines) == 1
    watch(30, "codes", 1, 3)  # the same task of the next run
    assert lines[1:] == ["takes      codes: about 60 s"]  # the first batch alone takes longer than `LEAST`
    watch(60, "codes", 3, 3)
    watch(LEAST / 3, "quick", 1, 3)
    watch(LEAST / 3, "quick", 2, 3)
    watch(LEAST / 3, "quick", 3, 3)
    assert len(lines) == 2
    now[0] += 1000  # time before the next measure does not count for its tasks
    durations.begin()
    watch(6, "pair", 1, 2)
    assert len(lines) == 2
    durations.expect("matrix", 7200)
    assert lines[2:] == ["takes      matrix: about 2.0 h"]


def test_durations_in_words() -> None:
    assert [in_words(seconds) for seconds in (12.3, 89, 91, 3600, 9000)] == ["12 s", "89 s", "2 min", "60 min", "2.5 h"]


def test_announcing_a_duration_draws_no_random_numbers() -> None:
    subject = make_digits()
    state = torch.get_rng_state()
    run_measure(make_measures("limit=20")["kid"], replace(subject, expect=lambda task, seconds: None))
    assert torch.equal(torch.get_rng_state(), state)
