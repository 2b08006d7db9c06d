"""Models trained once for many settings: their results at each, as the report of a sweep, and hydra/sweeper=surface."""
