"""Entities in files and from other stores, and backups. Pure: who sends rows where is not known here."""
