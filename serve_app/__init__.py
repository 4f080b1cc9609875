"""The outside of the cluster: HTTP, and the same calls by Ray handle."""
