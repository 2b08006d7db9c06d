"""Properties that hold for all input, tried on input that hypothesis makes up: the same in every run."""

from hypothesis import HealthCheck, settings

tried = settings(deadline=None, derandomize=True, database=None, max_examples=200)
in_one_folder = settings(tried, suppress_health_check=[HealthCheck.function_scoped_fixture])
