"""What is never answered: words that carry a question and are not understood, and orders to change something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sql_synthesizer.words.lexicon import STOP
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.money import TOTALS
from sql_synthesizer.words.names import Names
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.tokens import Token, TokenKind

_WRITING: Final = frozenset(
    {
        "delete", "drop", "insert", "update", "truncate", "alter", "erase", "purge", "overwrite", "remove", "create",
        "add", "change", "modify", "rename", "replace", "wipe", "destroy", "edit", "set", "increase", "decrease",
        "raise", "reduce", "clear", "empty", "grant", "revoke", "discard",
    }
)  # fmt: skip
_PLAIN: Final = frozenset({"delete", "drop", "insert", "update", "truncate", "alter", "erase", "purge", "overwrite"})
"""These are orders after "and", too."""
_POLITE: Final = STOP | frozenset(
    ["please", "could", "want", "like", "need", "to", "now", "kindly", "go", "ahead", "let"]
)
NUMBER: Final = frozenset({"number", "numbers", "amount"})
"""After "sorted by" these are the number that is shown."""
_NAMED: Final = 0.85


def order_to_write(tokens: Sequence[Token], names: Names) -> str | None:
    """Return the verb with which a question orders a change; None where it asks, or a name of the schema is meant."""
    starting, joined = True, False
    for at, token in enumerate(tokens):
        if token.text == ";" or token.lower in {"and", "then"}:
            starting, joined = True, token.text != ";"
        elif starting and (token.lower not in _POLITE or token.kind is not TokenKind.WORD):
            verbs = _PLAIN if joined and at > 0 else _WRITING
            ahead = tokens[at + 1].lower if at + 1 < len(tokens) else ""
            if token.kind is TokenKind.WORD and token.lower in verbs and ahead != "up" and not _named(token, names):
                return token.text
            starting = False
    return None


def _named(token: Token, names: Names) -> bool:
    return any(score >= _NAMED for _, score in names.matching((token.stem,))[:1])


def carrying(items: Sequence[Item]) -> tuple[str, ...]:
    """Return the words that are not understood though a group, an order or a number is by them."""
    return tuple(dict.fromkeys(item.text for at, item in enumerate(items) if item.unknown and _carries(items, at)))


def _carries(items: Sequence[Item], at: int) -> bool:
    before, after = _at(items, at - 1), _at(items, at + 1)
    if before is not None and before.is_(Role.ORDER) and items[at].text.lower() in NUMBER:
        return False
    if before is not None and (_by(before) or _keyed(items, at)):
        return True
    named = after is not None and bool(after.names)
    if before is not None and before.number is not None:
        before = _at(items, at - 2)
    if before is not None and not named and (before.is_(Role.COUNT, Role.TOP) or _lists(before, after)):
        return True
    if after is None:
        return False
    if after.is_(Role.SUPERLATIVE, Role.POPULAR) and _measuring(after):
        return not any(_said(_at(items, at + ahead)) for ahead in (2, 3))
    heads = all(item.is_(Role.ASK) or item.text.lower() in TOTALS for item in items[:at])
    return heads and (after.is_(Role.EACH) or after.text.lower() in {"by", "of"})


def _lists(before: Item, after: Item | None) -> bool:
    """Whether a word is one more thing to show ("customers and their frobnication")."""
    ends = after is None or after.is_(Role.OF, Role.SENTENCE)
    return before.is_(Role.THEIR) or (before.is_(Role.AND) and ends)


def _at(items: Sequence[Item], at: int) -> Item | None:
    return items[at] if 0 <= at < len(items) else None


def _said(item: Item | None) -> bool:
    return item is not None and bool(item.names or item.measure)


def _by(item: Item) -> bool:
    """Whether a word says that what follows is what a group, an order or a number is by."""
    return item.is_(Role.EACH, Role.ORDER, Role.AGGREGATE) or _measuring(item) or item.text.lower() == "by"


def _keyed(items: Sequence[Item], at: int) -> bool:
    """Whether a word goes on a key that is known ("by track frobnication")."""
    before, by = _at(items, at - 1), _at(items, at - 2)
    if by is None or before is None or before.end != items[at].start or by.is_(Role.EACH, Role.AGGREGATE):
        return False
    return _said(before) and _by(by)


def _measuring(item: Item) -> bool:
    """Whether a word ranks by what is named beside it, rather than by what it means itself."""
    if item.op is None or not item.is_(Role.SUPERLATIVE):
        return False
    return item.op.word in {"most", "least", "high", "low", "great", "large", "big", "small", "good", "bad"}
