"""Whether a text is SQL or words."""

from __future__ import annotations

import re
from typing import Final

COMMENTS: Final = re.compile(r"^(\s+|--[^\n]*(\n|$)|/\*.*?\*/)+", re.DOTALL)
SQL: Final = re.compile(
    r"""\(*\s*select\b | with\s+(recursive\s+)?[\w"`\[\]]+\s*(\([^)]*\)\s*)?as\s*(not\s+)?(materialized\s*)?\( |
    values\s*\( | explain\s+(analyze\s+)?(\(|select|with|insert|update|delete) | table\s+\S+\s*;?\s*$ |
    from\s+\S+\s+select\b | insert\s+into | replace\s+into | merge\s+into | update\s+\S+\s+set | delete\s+from |
    (drop|create|alter|truncate)\s+(or\s+replace\s+|temp\w*\s+)?(table|view|index|schema|database|role|user|function|macro
    |trigger|sequence|secret|extension) | (attach|detach|pragma|copy|vacuum|reindex|analyze|grant|revoke|call|execute
    |prepare|install|load|begin|commit|rollback|checkpoint|export|import|declare|do|lock|listen|set|reset)\b(?!.*\?$)""",
    re.IGNORECASE | re.VERBOSE,
)
"""How statements begin. What writes is SQL, too: the guard refuses it, and says so."""


def is_sql(text: str) -> bool:
    """Return whether a text is meant as SQL: by its beginning, comments left out, or by a semicolon within it."""
    plain = COMMENTS.sub("", text, count=1)
    return SQL.match(plain) is not None or ";" in plain.rstrip().rstrip(";")
