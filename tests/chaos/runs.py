"""How long the chaos tests run: ``make chaos`` sets the variable for the long version."""

import os


def runs(short: int, long: int) -> int:
    """Return how many runs to make."""
    return long if os.environ.get("QQC_CHAOS") == "long" else short
