"""Properties that hold for all inputs, tested on inputs that Hypothesis generates.

By default the inputs are the same in every run, so that failures are reproducible. `make test-random` sets
NELBO_PROPERTIES=random, which generates ten times as many new inputs and prints how to reproduce a failure.
"""

import os

from hypothesis import HealthCheck, settings

RANDOM = os.environ.get("NELBO_PROPERTIES", "fixed") == "random"
EXAMPLES, MORE = 200, 10 if RANDOM else 1

tried = settings(deadline=None, derandomize=not RANDOM, database=None, max_examples=EXAMPLES * MORE, print_blob=RANDOM)
in_one_folder = settings(tried, suppress_health_check=[HealthCheck.function_scoped_fixture])
