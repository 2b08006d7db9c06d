"""How codes and images are shown: what evaluation and pictures both use."""
