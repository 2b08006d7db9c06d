"""The data sets: functions that return `Arrays`, and the readers of their file formats."""
