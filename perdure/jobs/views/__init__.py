"""Results as a terminal and other programs read them."""
