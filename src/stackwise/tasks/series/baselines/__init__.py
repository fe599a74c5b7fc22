"""What a comparison on series includes besides the methods."""
