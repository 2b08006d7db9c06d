"""The directory of a run: names of its files, who owns it, how long its logs are."""
