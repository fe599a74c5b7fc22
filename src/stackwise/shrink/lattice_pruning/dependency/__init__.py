"""From influences between units to the lattice of what they depend on."""
