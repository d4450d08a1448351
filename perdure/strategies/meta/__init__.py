"""Meta-learning: what to start from, so that a few steps on a few samples of a new task are enough."""
