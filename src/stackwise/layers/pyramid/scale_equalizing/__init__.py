"""Convolutions over the levels of a pyramid (arXiv 2005.03101)."""
