"""Where a fit computes, and what its processes tell each other."""
