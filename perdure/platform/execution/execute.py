"""One attempt at a run: from its newest checkpoint to its end, told as events."""
