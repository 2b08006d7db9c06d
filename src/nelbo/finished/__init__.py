"""Work on finished runs: evaluation, comparison, pictures, and replay of the last step of a diverged run."""
