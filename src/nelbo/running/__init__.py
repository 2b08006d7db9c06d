"""The life of one run: its directory, the construction of its parts, training, testing and resuming."""
