"""The client of a cluster, by HTTP or from within: ``QuantumDB`` and what its calls take and return."""
