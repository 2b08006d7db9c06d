"""Random states, floating-point precision, and sums over processes."""
