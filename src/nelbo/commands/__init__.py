"""The command line: train, evaluate, draw, export, sweeps' reports and the other commands, and completion in shells."""
