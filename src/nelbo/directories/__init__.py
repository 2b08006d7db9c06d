"""A run's directory on disk: the names of its files, the process that owns it and the lengths of its logs."""
