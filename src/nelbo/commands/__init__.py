"""The command line: train, evaluate, draw, data, report, replay, and completion in shells."""
