"""The index: one folder of segments, mapped from the disk, that grows, forgets and is compacted."""
