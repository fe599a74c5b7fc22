"""What is measured of a model, a file a measurement."""
