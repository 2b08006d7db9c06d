"""Callbacks of a run: checkpoints, logging, progress, pictures and checks of its numbers."""

from nelbo.training.callbacks.checkpoints import Checkpoints
from nelbo.training.callbacks.dashboard import Dashboard
from nelbo.training.callbacks.guard import Guard
from nelbo.training.callbacks.history import History
from nelbo.training.callbacks.latents import LatentUnits, Projector
from nelbo.training.callbacks.model_table import ModelTable
from nelbo.training.callbacks.pictures import Pictures
from nelbo.training.callbacks.progress import EpochLines, ProgressBar
from nelbo.training.callbacks.pruning import Pruning
from nelbo.training.callbacks.random_states import RandomStates
from nelbo.training.callbacks.scalars import Throughput, TrainingScalars
from nelbo.training.callbacks.strips import Strips

__all__ = [
    "Checkpoints",
    "Dashboard",
    "EpochLines",
    "Guard",
    "History",
    "LatentUnits",
    "ModelTable",
    "Pictures",
    "ProgressBar",
    "Projector",
    "Pruning",
    "RandomStates",
    "Strips",
    "Throughput",
    "TrainingScalars",
]
