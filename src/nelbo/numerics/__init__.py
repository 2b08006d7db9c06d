"""Random states, floating-point precision, and statistics over several training processes."""
