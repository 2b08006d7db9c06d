"""Checkpoint files: written, read, checked, and turned back into models."""
