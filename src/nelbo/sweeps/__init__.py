"""Sweeps: planning, launching and resuming their cells, searches, and the live table."""
