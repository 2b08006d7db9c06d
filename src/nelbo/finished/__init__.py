"""What is done with finished runs: evaluate, compare, draw and replay them."""
