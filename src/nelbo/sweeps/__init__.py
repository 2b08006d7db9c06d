"""Sweeps: launching, resuming, searching, reporting."""
