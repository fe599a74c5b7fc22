"""What detectors share: the estimator, the network of backbone, neck and head, and its training."""
