"""A run's config as plain containers: checked, compared and built, without Hydra and without Lightning."""
