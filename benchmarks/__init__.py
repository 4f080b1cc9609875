"""Measured comparisons. Each prints its figures beside a named peer's, measured in the same run."""
