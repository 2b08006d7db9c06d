"""Messages for a person who typed something that cannot be used: one line, with a hint that works as it stands."""
