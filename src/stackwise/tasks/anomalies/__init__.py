"""The task of finding anomalies: one series of several channels, a span of it said to be normal."""
