"""The config of a run as plain containers: checks, comparison, identity and construction of its objects."""
