"""What detectors share: scaling, windows, thresholds, scores of a series or a stream."""
