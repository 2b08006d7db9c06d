"""What is printed on a terminal: tables, and streams whose reader may close them."""
