"""The sweepers and launchers of nelbo. Hydra imports this package in every run, so it imports nothing slow."""
