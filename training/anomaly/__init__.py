"""Anomaly detectors that learn from normal images alone: features, evidence, one score, all in one graph."""
