"""Words to SQL: a question read against a schema, with what was taken for what, or a question back."""

from sql_synthesizer.words.reading import Reading, Unclear, WordsReader, to_sql
from sql_synthesizer.words.state import Link
from sql_synthesizer.words.values import StoredValue, ValueIndex

__all__ = ["Link", "Reading", "StoredValue", "Unclear", "ValueIndex", "WordsReader", "to_sql"]
