"""Measures of finished models: likelihood bounds, posterior diagnostics, representations and sample quality."""

from nelbo.evaluation.ais import AIS
from nelbo.evaluation.collapse import Collapse
from nelbo.evaluation.disentanglement import Disentanglement
from nelbo.evaluation.extractors import Classifier, Inception
from nelbo.evaluation.gaps import Gaps
from nelbo.evaluation.importance import importance, log_likelihood
from nelbo.evaluation.information import Information
from nelbo.evaluation.levels import Levels
from nelbo.evaluation.likelihood import NLL
from nelbo.evaluation.neighbours import Neighbours
from nelbo.evaluation.passes import ELBO, ActiveUnits
from nelbo.evaluation.representation import KNN, Accuracy, Probe, Silhouette
from nelbo.evaluation.sample_quality import FID, KID, PRDC
from nelbo.evaluation.total_correlation import TotalCorrelation
from nelbo.evaluation.udr import UDR

__all__ = [
    "Accuracy",
    "AIS",
    "ELBO",
    "FID",
    "KID",
    "KNN",
    "NLL",
    "PRDC",
    "UDR",
    "ActiveUnits",
    "Classifier",
    "Collapse",
    "Disentanglement",
    "Gaps",
    "Inception",
    "Information",
    "Levels",
    "Neighbours",
    "Probe",
    "Silhouette",
    "TotalCorrelation",
    "importance",
    "log_likelihood",
]
