"""Where the vectors of words come from, and how they are kept."""
