"""Callbacks: what a person watches while a model trains."""

from nelbo.training.callbacks.best import BestMetrics
from nelbo.training.callbacks.dashboard import Dashboard
from nelbo.training.callbacks.history import History
from nelbo.training.callbacks.latents import LatentUnits, Projector
from nelbo.training.callbacks.pictures import Pictures
from nelbo.training.callbacks.progress import EpochLines, ProgressBar
from nelbo.training.callbacks.pruning import Pruning
from nelbo.training.callbacks.scalars import Throughput, TrainingScalars
from nelbo.training.callbacks.strips import Strips
from nelbo.training.callbacks.summary import ModelTable

__all__ = [
    "BestMetrics",
    "Dashboard",
    "EpochLines",
    "History",
    "LatentUnits",
    "ModelTable",
    "Pictures",
    "ProgressBar",
    "Projector",
    "Pruning",
    "Strips",
    "Throughput",
    "TrainingScalars",
]
