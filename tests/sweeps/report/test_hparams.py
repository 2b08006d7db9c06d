"""The event files that a report writes for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from nelbo.sweeps.report.write import write_report
from tests.helpers.report_page import GRID
from tests.helpers.sweep_directories import write_sweep


def test_a_second_report_replaces_the_event_files_of_the_first(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sweep = write_sweep(tmp_path / "sweep", GRID)
    for _ in range(2):
        write_report(sweep)
    (events,) = (sweep / "tensorboard").glob("events.out.tfevents.*")
    board = EventAccumulator(str(events)).Reload()
    assert "sweep/rate_distortion" in board.Tags()["images"] and len(board.Tags()["images"]) == 6
    for folder in (sweep / "tensorboard").glob("cell*"):
        (file,) = folder.iterdir()
        session = EventAccumulator(str(file)).Reload()
        assert session.Scalars("test/nelbo")[0].value > 0
    keys = {frozenset(session_keys(file)) for file in (sweep / "tensorboard").glob("cell*/*")}
    assert len(keys) == 1 and {"objective.beta", "model", "seed"} <= set(next(iter(keys)))


def session_keys(file: Path) -> set[str]:
    """Return the hyperparameters of the hparams session in an event file."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                return set(data.session_start_info.hparams)
    return set()
