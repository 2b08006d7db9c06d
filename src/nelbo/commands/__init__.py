"""The command line: train, evaluate, draw, fold, data, report, replay, reproduce, and completion in shells."""
