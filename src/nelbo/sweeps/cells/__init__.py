"""A cell of a sweep: its record, its name, its values and its command."""
