"""Models, fixtures, fake servers and run helpers that several tests share."""
