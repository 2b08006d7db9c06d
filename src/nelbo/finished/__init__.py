"""What is done with finished runs: evaluated, compared, drawn."""
