"""Hydra's side of a config: where its files are, and which groups, options and keys a command has."""
