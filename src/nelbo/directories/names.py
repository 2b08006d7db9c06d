"""The names of the files in a run's directory."""

from __future__ import annotations

from nelbo.directories.logs import HISTORY, LIST, UNIT_HISTORY

CONFIG, OVERRIDES, METRICS, CHECKPOINTS = "config.yaml", "overrides.yaml", "metrics.json", "checkpoints"

MARK = ".run"
"""Says which run a directory is of: its identity and, in a Slurm job, the job."""

EVALUATION, EVALUATION_ARRAYS, EVALUATION_LOCK = "evaluation.json", "evaluation.npz", ".evaluation.lock"

AUTO = "auto"

CRASHES = "crash"

PICTURES = ("pictures/samples.png", "pictures/reconstructions.png")

WRITTEN = (CONFIG, OVERRIDES, METRICS, EVALUATION, EVALUATION_ARRAYS, HISTORY, UNIT_HISTORY, *PICTURES, CRASHES)
"""What a run writes, whatever its loggers are, beside checkpoints; and what its evaluation does."""

HALF_WRITTEN = {
    "": (CONFIG, OVERRIDES, MARK, LIST, METRICS),
    CHECKPOINTS: ("*.ckpt", "probe"),
    CRASHES: ("step-*.pt",),
}
"""By folder, the names of files of which a killed process may have left a part."""
