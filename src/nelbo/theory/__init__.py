"""Exact answers for linear models, computed from plain tensors."""
