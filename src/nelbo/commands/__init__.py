"""The commands: train, evaluate, draw, data, report and replay."""
