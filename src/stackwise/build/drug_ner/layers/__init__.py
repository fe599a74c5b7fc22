"""What layers learn before a network does, and what stands on top of it."""
