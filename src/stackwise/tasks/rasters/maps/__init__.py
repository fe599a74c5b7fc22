"""A map: made strip by strip, filtered, scored, written, drawn."""
