"""Work on finished runs: evaluation, comparison, pictures, folding, export, and replay of a diverged run's last step."""
