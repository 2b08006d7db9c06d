"""Terminal output: consoles, tables, and standard streams that survive a closed pipe."""
