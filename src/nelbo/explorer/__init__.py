"""The latent explorer: a page on this machine on which points of a latent space are dragged and decoded."""
