"""Names of the files in a run's directory."""

from __future__ import annotations

from nelbo.directories.logs import HISTORY, LIST, UNIT_HISTORY

CONFIG, OVERRIDES, METRICS, CHECKPOINTS = "config.yaml", "overrides.yaml", "metrics.json", "checkpoints"

MARK = ".run"
"""File that identifies the run a directory belongs to: the run's identity and, in a Slurm job, the job's number."""

EVALUATION, EVALUATION_ARRAYS, EVALUATION_LOCK = "evaluation.json", "evaluation.npz", ".evaluation.lock"

AUTO = "auto"
"""Value of `resume` that looks for the run to resume."""

CRASHES = "crash"

PICTURES = ("pictures/samples.png", "pictures/reconstructions.png")

WRITTEN = (CONFIG, OVERRIDES, METRICS, EVALUATION, EVALUATION_ARRAYS, HISTORY, UNIT_HISTORY, *PICTURES, CRASHES)
"""Files that every run and its evaluation write, whatever the loggers; without checkpoints."""

HALF_WRITTEN = {
    "": (CONFIG, OVERRIDES, MARK, LIST, METRICS),
    CHECKPOINTS: ("*.ckpt", "probe"),
    CRASHES: ("step-*.pt",),
}
"""Patterns of the files, by folder, that a killed process may have left partly written."""
