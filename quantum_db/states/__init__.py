"""The lifecycle of many states at once: tables of arrays, their expiry, their history, their records."""
