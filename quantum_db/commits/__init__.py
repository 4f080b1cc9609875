"""Transactions: written down, applied, receipted; and the one coordinator that numbers all writes of a collection."""
