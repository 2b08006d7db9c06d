"""Work on finished runs: evaluation, comparison, pictures, folding, export, and replay of the step of a crash."""
