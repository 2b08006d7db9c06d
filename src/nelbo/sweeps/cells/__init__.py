"""The cells of a sweep: their records on disk, their names, their values and their commands."""
