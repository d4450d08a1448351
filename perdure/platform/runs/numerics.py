"""The version of the arithmetic: runs of different versions are different runs."""

# Raised by every change that alters what a run comes to, be it a formula, a default or an order of random draws.
# tests/platform/runs/test_numerics.py holds results that were recorded with it, and says how to record them anew.
NUMERICS = 2
