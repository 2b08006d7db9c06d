"""Hydra finds its plugins by importing this package, in every run: nothing heavy here."""
