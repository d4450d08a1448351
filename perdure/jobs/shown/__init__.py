"""What runs have come to, on a terminal and for programs."""
