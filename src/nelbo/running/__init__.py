"""The life of one run: its directory, its parts, training and testing, and going on after a stop."""
