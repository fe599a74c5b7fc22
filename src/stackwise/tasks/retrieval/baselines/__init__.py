"""What a comparison of searches includes besides the methods."""
