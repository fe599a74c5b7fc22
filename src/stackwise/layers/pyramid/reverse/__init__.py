"""A pyramid fused from fine to coarse, whose levels then meet (arXiv 2110.12130)."""
