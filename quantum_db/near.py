"""Suggestions for misspelt names in error messages."""

from __future__ import annotations

from collections.abc import Iterable

from rapidfuzz import process


def near_name(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` with the known names that look like ``name``, or an empty string."""
    found = [match for match, _, _ in process.extract(name, list(known), limit=3, score_cutoff=60, processor=str.lower)]
    return f"; did you mean {' or '.join(repr(match) for match in found)}?" if found else ""
