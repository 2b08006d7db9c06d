"""Properties that hold for all input, tried on input that hypothesis makes up: the same in every run."""

from hypothesis import settings

tried = settings(deadline=None, derandomize=True, database=None, max_examples=200)
