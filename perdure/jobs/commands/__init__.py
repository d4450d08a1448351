"""A file for every command: its help, its arguments, and what it does with them."""
