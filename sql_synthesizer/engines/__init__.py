"""Where statements run: DuckDB, SQLite and PostgreSQL, each read-only, locked in, and bounded in time and size."""
