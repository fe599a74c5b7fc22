"""Probes: what does each block do? They look at a model and change nothing in it."""
