"""Whether everything that a statement is made of is in the lists of what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlglot import exp

from sql_synthesizer.guard.allowed import FUNCTIONS, MAX_PAD, NAMES, NODES, TYPES, VOLATILE, VOLATILE_NAMES, WORDS
from sql_synthesizer.guard.reading import Text

MAX_SOURCES: Final = 64
MAX_NODES: Final = 20_000
SELECT: Final = """with_ expressions distinct from_ laterals joins where group having qualify windows order limit offset
    operation_modifiers"""
CLAUSES: Final[Mapping[type[exp.Expr], frozenset[str]]] = {
    exp.Select: frozenset(SELECT.split()),
    exp.Table: frozenset({"this", "db", "alias", "joins", "laterals"}),
    exp.Join: frozenset({"this", "on", "side", "kind", "using", "method"}),
    exp.Star: frozenset({"except_"}),
    exp.Subquery: frozenset({"this", "alias", "with_", "joins", "order", "limit", "offset"}),
    **dict.fromkeys(
        (exp.Union, exp.Intersect, exp.Except),
        frozenset({"this", "expression", "with_", "distinct", "order", "limit", "offset"}),
    ),
    exp.Unnest: frozenset({"expressions", "alias"}),
    exp.In: frozenset({"this", "expressions", "query"}),  # SQLite takes a text in quotes for the name of a table
    exp.Fetch: frozenset({"direction", "count", "limit_options"}),
    exp.Limit: frozenset({"expression", "this"}),
    exp.CTE: frozenset({"this", "alias", "materialized", "scalar"}),
    exp.Lateral: frozenset({"this", "alias", "view", "outer"}),
}
"""Of parts that have doors of their own: what they may hold."""
WORDS_OF_CLAUSES: Final = {"locks": "FOR UPDATE or FOR SHARE", "into": "INTO", "sample": "TABLESAMPLE"}
JOINS: Final = frozenset({"", "INNER", "OUTER", "CROSS"})


def check_parts(text: Text, root: exp.Query, dialect: str) -> None:
    """Look at every part of a statement.

    Raises:
        SqlRefused: one is not in the lists; the message names it and its place.
    """
    names = NAMES[dialect]
    sources = 0
    for number, node in enumerate(root.walk()):
        if number >= MAX_NODES:
            raise text.refused(f"the statement has more than {MAX_NODES} parts")
        if isinstance(node, exp.Func):
            _check_function(text, node, names)
        elif type(node) not in NODES:
            raise text.refused(f"{_told(node)} is not allowed", node)
        if isinstance(node, exp.Var) and node.name.lower() not in WORDS:
            raise text.refused(f"{node.name} is not allowed here", node)
        clauses = CLAUSES.get(type(node))
        if clauses is not None:
            _check_clauses(text, node, clauses)
        sources += isinstance(node, exp.Table | exp.Values | exp.Unnest)
    if sources > MAX_SOURCES:
        raise text.refused(f"the statement reads {sources} tables, and {MAX_SOURCES} are allowed")


def is_volatile(root: exp.Query) -> bool:
    """Return whether the same statement may give other rows without a write: by the clock, or by chance."""
    for node in root.walk():
        if isinstance(node, VOLATILE):
            return True
        if isinstance(node, exp.Anonymous) and (not node.expressions or node.name.lower() in VOLATILE_NAMES):
            return True  # SQLite's functions of dates take the present time where they are given none
        if isinstance(node, exp.Literal) and node.is_string and node.name.lower() in ("now", "today", "tomorrow"):
            return True
        if isinstance(node, exp.Func) and not node.args.get("this") and node.key in ("date", "datetime", "time"):
            return True
    return False


def _check_function(text: Text, node: exp.Func, names: frozenset[str]) -> None:
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        if not isinstance(node.this, str) or node.name.lower() not in names:
            raise text.refused(f"the function {node.name.lower()}() is not allowed", node)
    elif type(node) not in FUNCTIONS:
        name = str(node.meta.get("name") or node.sql_name()).lower()
        raise text.refused(f"the function {name}() is not allowed", node)
    elif isinstance(node, exp.Cast):
        _check_type(text, node)
    elif isinstance(node, exp.Pad):
        length = node.expression
        if not (isinstance(length, exp.Literal) and length.name.isdigit() and int(length.name) <= MAX_PAD):
            raise text.refused(f"the length to pad to must be a whole number, at most {MAX_PAD}", node)


def _check_type(text: Text, node: exp.Cast) -> None:
    for one in node.to.find_all(exp.DataType, exp.ObjectIdentifier, exp.PseudoType):
        if not isinstance(one, exp.DataType) or one.this not in TYPES:
            raise text.refused(f"a value may not be cast to {one.sql()}", node)


def _check_clauses(text: Text, node: exp.Expr, clauses: frozenset[str]) -> None:
    for name, value in node.args.items():
        if name not in clauses and _given(value):
            told = WORDS_OF_CLAUSES.get(name, name.strip("_").upper())
            raise text.refused(f"{told} is not allowed in {node.key.upper()}", node)
    if isinstance(node, exp.Select) and _given(node.args.get("operation_modifiers")):
        raise text.refused("a modifier of SELECT is not allowed", node)
    if isinstance(node, exp.Join) and (node.kind or "").upper() not in JOINS:
        raise text.refused(f"a join of kind {node.kind} is not allowed", node)


def _given(value: Any) -> bool:
    return value is not None and value is not False and value not in ([], "")


def _told(node: exp.Expr) -> str:
    told: dict[type[exp.Expr], str] = {
        exp.Command: "this command",
        exp.Placeholder: "a placeholder",
        exp.Parameter: "a parameter",
        exp.SessionParameter: "a setting of the session",
    }
    return told.get(type(node), node.key.upper())
