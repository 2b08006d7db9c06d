"""Errors of command lines and configs, each as one line with a hint that can be followed as it stands."""
