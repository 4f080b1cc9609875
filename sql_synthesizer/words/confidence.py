"""How sure a reading is: a logistic model over what had to be guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from sqlglot import exp

from sql_synthesizer.words.state import State

WEIGHTS: Final[Mapping[str, float]] = {
    "": 2.01,
    "doubt:column": -0.68,
    "doubt:far": -0.73,
    "doubt:left": -1.14,
    "doubt:literal": -0.18,
    "doubt:measure": -0.72,
    "doubt:order": 0.23,
    "doubt:unknown": -1.05,
    "doubt:value": -0.33,
    "group": 0.43,
    "links": 0.29,
    "no table said": -0.58,
    "nothing": -0.12,
    "other doubts": -0.20,
    "ranking": -0.26,
    "selects": -0.09,
    "tables": -0.27,
    "targets": -0.11,
    "weak columns": -0.59,
    "weak values": -0.39,
    "weakest link": -0.62,
    "words": -0.45,
}
"""By feature; "" is the constant. Fitted by ``benchmarks.sql_words --fit`` on the development data."""

THRESHOLD: Final = 0.5
"""Below it a question is asked back."""


def features(state: State, tree: exp.Query) -> dict[str, float]:
    """Return what tells how sure a reading is."""
    doubts = state.doubts
    scores = [link.score for link in state.links] or [0.5]
    columns = [link for link in state.links if link.kind == "column"]
    values = [link for link in state.links if link.kind == "value"]
    tables = {table.name for table in tree.find_all(exp.Table)}
    found = {f"doubt:{kind}": float(min(doubts.count(kind), 2)) for kind in KINDS}
    found["other doubts"] = float(sum(kind not in KINDS for kind in doubts))
    found["weakest link"] = 1.0 - min(scores)
    found["weak columns"] = sum(1.0 - link.score for link in columns)
    found["weak values"] = sum(1.0 - link.score for link in values)
    found["links"] = min(len(state.links), 8) / 4
    found["tables"] = float(min(len(tables), 5) - 1)
    found["words"] = min(len(state.items), 30) / 10
    found["selects"] = float(sum(1 for _ in tree.find_all(exp.Select)) - 1)
    found["targets"] = float(abs(len(state.query.targets) - 1))
    found["no table said"] = float(not state.said)
    found["ranking"] = float(state.query.phrase.ranking is not None)
    found["group"] = float(tree.find(exp.Group) is not None)
    found["nothing"] = float(
        not state.query.phrase.clauses and not state.query.phrase.ranking and not state.query.groups
    )
    return found


KINDS: Final = ("unknown", "column", "value", "measure", "literal", "left", "order", "far")


def confidence(found: Mapping[str, float]) -> float:
    """Return the estimated probability that a reading with these features is right."""
    total = WEIGHTS[""] + sum(WEIGHTS.get(name, 0.0) * value for name, value in found.items())
    return 1.0 / (1.0 + math.exp(-total))
