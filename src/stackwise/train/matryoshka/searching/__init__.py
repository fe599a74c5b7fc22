"""Search by vectors whose first numbers serve alone: a map on an encoder's means, from pairs."""
