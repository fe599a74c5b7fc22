"""Experiment trackers, told of each line of a fit once."""
