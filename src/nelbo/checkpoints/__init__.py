"""Checkpoints: writing, reading, checking, and building models from them."""
