"""Exact answers for linear models, on tensors."""
