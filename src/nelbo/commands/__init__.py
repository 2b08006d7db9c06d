"""The command line: train, evaluate, draw, data, report, replay, reproduce, and completion in shells."""
