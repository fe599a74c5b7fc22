"""How tagged texts are read."""
