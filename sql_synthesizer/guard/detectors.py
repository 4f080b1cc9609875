"""What in a text looks like an attack. Advice for logs and limits: no detector decides whether a statement may run.

Whether a statement may run is for the guard, which looks at its tree. A detector may be wrong in both directions: most
of these patterns are harmless inside quotes, and what is in no pattern may do harm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from sql_synthesizer.guard.reading import MAX_CHARACTERS, MAX_DEPTH, Text, depth_of


class Threat(StrEnum):
    """How much a finding says."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that looks like an attack.

    Attributes:
        name: of the detector.
        threat: how seldom a harmless statement looks like this.
        message: what was found.
        line: where, from 1, if known.
        column: where, from 1, if known.
    """

    name: str
    threat: Threat
    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A text, and its trees if it can be read."""

    text: Text
    trees: tuple[exp.Expr, ...]

    def all(self, *kinds: type[exp.Expr]) -> Iterator[exp.Expr]:
        """Yield the parts of these kinds."""
        for tree in self.trees:
            yield from tree.find_all(*kinds)

    def literals(self) -> Iterator[exp.Literal]:
        """Yield the texts in quotes."""
        for node in self.all(exp.Literal):
            if isinstance(node, exp.Literal) and node.is_string:
                yield node


Found = Iterator[tuple[str, exp.Expr | None]]
COMPARED: Final = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like)
CATALOGUES: Final = frozenset({"information_schema", "pg_catalog", "sys", "mysql"})
CATALOGUE_NAMES: Final = re.compile(r"^(sqlite_|pg_|duckdb_|pragma_|information_schema|sysobjects|all_tables)", re.I)
SLEEPS: Final = frozenset({"pg_sleep", "sleep", "benchmark", "waitfor", "randomblob", "generate_series", "repeat"})
FILES: Final = re.compile(
    r"^(pg_read_|pg_ls_|lo_|read_|readfile|writefile|load_file|load_extension|glob$|dblink|copy)", re.I
)
SETTINGS: Final = frozenset(
    {"set_config", "current_setting", "getenv", "version", "current_version", "current_user", "session_user"}
)
PAYLOAD: Final = re.compile(
    r"('|\")\s*(;|--|\)|or\b|and\b|union\b)|\bunion\s+(all\s+)?select\b|;\s*(drop|delete|insert|update|alter)\b", re.I
)
ENCODED: Final = re.compile(r"(0x[0-9a-f]{16,}|(%[0-9a-f]{2}){4,}|(\\x[0-9a-f]{2}){4,})", re.I)


def _tautology(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Or):
        for side in (node.this, node.expression):
            inner = side.unnest()
            if isinstance(inner, COMPARED) and not inner.find(exp.Column, exp.Query):
                yield "an OR with a condition that has no column", inner
            elif isinstance(inner, exp.EQ) and inner.this == inner.expression:
                yield "an OR with a column that is compared with itself", inner
            elif isinstance(inner, exp.Boolean | exp.Literal):
                yield "an OR with a constant", inner


def _union_of_constants(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Union):
        right = node.expression
        if isinstance(right, exp.Select) and len(right.expressions) > 1 and not right.find(exp.Column):
            yield "a UNION with a row of constants", right


def _several_statements(suspect: Suspect) -> Found:
    if len(suspect.trees) > 1:
        yield f"{len(suspect.trees)} statements", suspect.trees[1]


def _writing(suspect: Suspect) -> Found:
    for node in suspect.all(exp.DML, exp.DDL, exp.Drop, exp.Alter, exp.TruncateTable, exp.Grant, exp.Merge, exp.Copy):
        if not isinstance(node, exp.Query):
            yield f"{node.key.upper()}, which writes", node


def _command(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Command, exp.Set, exp.Attach, exp.Detach, exp.Pragma, exp.Use, exp.Kill, exp.Install):
        yield f"the command {node.key.upper()}", node


def _catalogue(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Table):
        if isinstance(node, exp.Table) and (node.db.lower() in CATALOGUES or CATALOGUE_NAMES.match(node.name)):
            yield f"the engine's own table {node.name}", node


def _functions(suspect: Suspect, wanted: Callable[[str], object], message: str) -> Found:
    for node in suspect.all(exp.Func):
        name = node.name if isinstance(node, exp.Anonymous) or not isinstance(node, exp.Func) else node.sql_name()
        if wanted(name.lower()):
            yield f"{message} {name.lower()}()", node


def _delay(suspect: Suspect) -> Found:
    yield from _functions(suspect, SLEEPS.__contains__, "a function that takes time:")


def _file(suspect: Suspect) -> Found:
    yield from _functions(suspect, FILES.match, "a function that reaches files or servers:")
    for node in suspect.all(exp.ReadCSV, exp.ReadParquet):
        yield "a function that reads a file", node


def _environment(suspect: Suspect) -> Found:
    yield from _functions(suspect, SETTINGS.__contains__, "a function that tells of the server:")


def _payload(suspect: Suspect) -> Found:
    for node in suspect.literals():
        if PAYLOAD.search(node.name):
            yield "a text in quotes that would be SQL without them", node


def _encoded(suspect: Suspect) -> Found:
    if ENCODED.search(suspect.text.sql):
        yield "text in an encoding that hides what it says", None


def _spelled_out(suspect: Suspect) -> Found:
    for node in suspect.all(exp.DPipe, exp.Concat):
        if len(list(node.find_all(exp.Chr))) >= 3:
            yield "a text that is put together from codes of characters", node
            return


def _comment_at_end(suspect: Suspect) -> Found:
    if re.search(r"'[^\n]*(--|/\*)[^\n]*$", suspect.text.sql):
        yield "a comment after a quote, up to the end", None


def _comment_within(suspect: Suspect) -> Found:
    if re.search(r"\w/\*.*?\*/\w", suspect.text.sql):
        yield "a comment within a word, or between two", None


def _letter_by_letter(suspect: Suspect) -> Found:
    for node in suspect.all(*COMPARED):
        for part in node.find_all(exp.Substring, exp.Ascii, exp.Unicode):
            if part.find(exp.Query):
                yield "one character of a query's result is compared", node
                break


def _error_on_purpose(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Cast):
        if node.this.find(exp.Query) and isinstance(node.find(exp.DPipe, exp.Concat), exp.Expr):
            yield "a query's result is cast to what it is not: an error would tell it", node


def _many_conditions(suspect: Suspect) -> Found:
    count = sum(1 for _ in suspect.all(exp.Or))
    if count > 50:
        yield f"{count} ORs", None


def _deep(suspect: Suspect) -> Found:
    if (depth := depth_of(suspect.text.sql)) > MAX_DEPTH // 4:
        yield f"brackets {depth} deep", None


def _large_product(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Select):
        joins = node.args.get("joins") or []
        free = [join for join in joins if not join.args.get("on") and not join.args.get("using") and not join.method]
        if len(free) >= 2 and not node.args.get("where"):
            yield f"{len(free) + 1} tables without a condition between them", node


def _long_text(suspect: Suspect) -> Found:
    for node in suspect.literals():
        if len(node.name) > 2_000:
            yield f"a text of {len(node.name)} characters in quotes", node


def _whole_table(suspect: Suspect) -> Found:
    for tree in suspect.trees:
        if isinstance(tree, exp.Select) and tree.is_star and not tree.args.get("limit") and not tree.args.get("where"):
            yield "all columns of all rows, without a LIMIT", tree


def _column_count(suspect: Suspect) -> Found:
    for node in suspect.all(exp.Ordered):
        if isinstance(node.this, exp.Literal) and node.this.name.isdigit() and int(node.this.name) > 20:
            yield f"ORDER BY {node.this.name}: how many columns there are is tried out", node


Detector = Callable[[Suspect], Found]
DETECTORS: Final[Mapping[str, tuple[Threat, Detector]]] = {
    "tautology": (Threat.HIGH, _tautology),
    "union-of-constants": (Threat.MEDIUM, _union_of_constants),
    "several-statements": (Threat.HIGH, _several_statements),
    "writing": (Threat.HIGH, _writing),
    "command": (Threat.HIGH, _command),
    "catalogue": (Threat.MEDIUM, _catalogue),
    "delay": (Threat.HIGH, _delay),
    "file": (Threat.HIGH, _file),
    "environment": (Threat.MEDIUM, _environment),
    "payload-in-text": (Threat.MEDIUM, _payload),
    "encoded": (Threat.MEDIUM, _encoded),
    "spelled-out": (Threat.MEDIUM, _spelled_out),
    "comment-at-end": (Threat.MEDIUM, _comment_at_end),
    "comment-within": (Threat.MEDIUM, _comment_within),
    "letter-by-letter": (Threat.HIGH, _letter_by_letter),
    "error-on-purpose": (Threat.HIGH, _error_on_purpose),
    "many-conditions": (Threat.LOW, _many_conditions),
    "deep": (Threat.LOW, _deep),
    "large-product": (Threat.LOW, _large_product),
    "long-text": (Threat.LOW, _long_text),
    "whole-table": (Threat.LOW, _whole_table),
    "column-count": (Threat.MEDIUM, _column_count),
}


def detect(sql: str, dialect: str) -> tuple[Finding, ...]:
    """Return what looks like an attack in a text, at most one finding of each detector. Never raises for a text."""
    text = Text(sql[:MAX_CHARACTERS])
    suspect = Suspect(text, _trees(text, dialect))
    findings = []
    for name, (threat, detector) in DETECTORS.items():
        found = next(detector(suspect), None)
        if found is not None:
            findings.append(Finding(name, threat, found[0], *text.place(found[1])))
    return tuple(findings)


def _trees(text: Text, dialect: str) -> tuple[exp.Expr, ...]:
    if depth_of(text.sql) > MAX_DEPTH:
        return ()
    try:
        parsed = sqlglot.parse(text.sql, read=dialect, error_level=ErrorLevel.IMMEDIATE)
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return ()  # what cannot be read has no tree; detectors of its text still look at it
    return tuple(tree for tree in parsed if tree is not None)
