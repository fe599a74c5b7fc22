"""Read a series of several channels, whole or piece by piece."""
