"""Tables: read a file or a frame, split it, turn its columns into features, score predictions."""
