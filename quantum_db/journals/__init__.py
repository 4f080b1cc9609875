"""Journals: append-only records that survive a crash."""
