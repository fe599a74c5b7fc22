"""Scenes of several bands, whose pixels are parted into units: a map."""
