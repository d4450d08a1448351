"""A file for every command, or for two that are of one kind: its help, its arguments, and what it does with them."""
