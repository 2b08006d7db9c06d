"""Properties that hold for all input, tried on input that Hypothesis makes up.

By default the input is the same in every run, so that a failure is never chance. `make test-random` tries new input,
ten times as much of it, and prints with a failure what reproduces it: NELBO_PROPERTIES=random chooses that.
"""

import os

from hypothesis import HealthCheck, settings

RANDOM = os.environ.get("NELBO_PROPERTIES", "fixed") == "random"
EXAMPLES, MORE = 200, 10 if RANDOM else 1

tried = settings(deadline=None, derandomize=not RANDOM, database=None, max_examples=EXAMPLES * MORE, print_blob=RANDOM)
in_one_folder = settings(tried, suppress_health_check=[HealthCheck.function_scoped_fixture])
