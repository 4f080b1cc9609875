"""Decisions about quantum jobs: no I/O, no threads, no clock of its own."""
