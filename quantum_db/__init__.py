"""A vector database whose last ranking stage runs as quantum circuits. Pure Python: nothing here imports Ray."""
