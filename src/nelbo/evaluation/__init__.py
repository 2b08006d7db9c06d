"""Estimators that call a model again and again."""

from nelbo.evaluation.importance import log_likelihood

__all__ = ["log_likelihood"]
