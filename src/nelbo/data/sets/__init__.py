"""The data sets: each a function that returns `Arrays`."""
