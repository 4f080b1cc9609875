"""What a phrase of the closed class may do in a question."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto


class Role(StrEnum):
    """What a phrase does in a question."""

    COUNT = auto()
    AGGREGATE = auto()
    SUPERLATIVE = auto()
    TOP = auto()
    COMPARE = auto()
    BETWEEN = auto()
    NOT = auto()
    EACH = auto()
    ORDER = auto()
    DIRECTION = auto()
    ALPHABETICAL = auto()
    DISTINCT = auto()
    AND = auto()
    OR = auto()
    BOTH = auto()
    EXCEPT = auto()
    RELATIVE = auto()
    WITH = auto()
    OF = auto()
    IN = auto()
    PATTERN = auto()
    MISSING = auto()
    RATIO = auto()
    PERCENT = auto()
    HOW = auto()
    ASK = auto()
    TOTAL_OF = auto()
    ALSO = auto()
    SENTENCE = auto()
    THEIR = auto()
    POPULAR = auto()
    NAMED = auto()
    SAME = auto()


@dataclass(frozen=True, slots=True)
class Op:
    """A phrase of the closed class.

    Attributes:
        role: what it does.
        word: which of its kind: "avg", ">", "prefix", ...
        hints: words that a column it speaks of may have; after "~" those where the order is reversed.
        descending: for orders and superlatives.
    """

    role: Role
    word: str = ""
    hints: tuple[str, ...] = ()
    descending: bool = True
