"""What every comparison on a series includes."""
