"""The best network of a search, trained; and how well ratings rank trained networks."""
