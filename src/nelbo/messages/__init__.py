"""One-line error messages for wrong command lines and configs, with hints that can be typed as they are."""
