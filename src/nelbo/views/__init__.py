"""What evaluation and pictures share: images of a split, codes, and charts and grids as tensors."""
