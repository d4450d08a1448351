"""Attacks on classifiers: what they may ask of their victim, how far they may go, and what they come to."""
