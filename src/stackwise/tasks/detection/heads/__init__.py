"""The heads of one-stage detectors: RetinaNet, FCOS and ATSS, what they assign, lose and decode."""
