"""The SQL synthesizer: words or SQL in, one checked and optimised read-only statement and its rows out.

Pure Python, like ``quantum_db``: nothing here imports Ray.
"""
