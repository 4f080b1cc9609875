"""The commands of ``quantum-db``, by what they are about."""
