"""Encoding, overlap circuits, their exact simulation, and the statistics of shots."""
