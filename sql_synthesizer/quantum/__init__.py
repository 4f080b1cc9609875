"""The parts of the synthesizer that have a quantum word in their name; `docs/sql-quantum.md` defines each word."""
