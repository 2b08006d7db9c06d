"""Work on finished runs: evaluation, comparison, pictures, folding, and replay of the last step of a diverged run."""
