"""Words or SQL in; checked, optimised, read-only SQL and its rows out. Pure Python, without Ray."""
