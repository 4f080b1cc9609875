"""Names of tables and columns as words, and how well a phrase of a question says one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rapidfuzz import fuzz

from sql_synthesizer.schema import Schema, Table
from sql_synthesizer.words.thesaurus import NEAR, expand
from sql_synthesizer.words.tokens import stem

_FUZZY: Final = 86.0
_LIGHT: Final = frozenset(
    stem(word)
    for word in [
        "name",
        "id",
        "code",
        "number",
        "title",
        "date",
        "type",
        "key",
        "value",
        "is",
        "has",
        "of",
        "in",
        "the",
        "a",
    ]
)
"""Words that tell little of a column: a question leaves them out."""


def parts(name: str) -> list[str]:
    """Split a name at underscores, camel case and digits; what is short or written together is spelled out."""
    return list(_parts(name))


@lru_cache(maxsize=20_000)
def _parts(name: str) -> tuple[str, ...]:
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])|([a-zA-Z])(\d)", r"\1\3\5 \2\4\6", name)
    words: list[str] = []
    for part in re.split(r"[^A-Za-z0-9]+", spaced):
        if part:
            words += expand(part.lower())
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Name:
    """A table's or column's name as words.

    Attributes:
        table: whose it is.
        column: None for the table itself.
        stems: of its words.
        bare: the same without the words of the table's own name and without a prefix that all columns share.
        full: of a column: after the words of its table.
    """

    table: str
    column: str | None
    stems: tuple[str, ...]
    bare: tuple[str, ...]
    full: tuple[str, ...] = ()


class Names:
    """All names of a schema, for looking up phrases."""

    def __init__(self, schema: Schema) -> None:
        """Split every name once."""
        self.tables = [Name(t.name, None, *_twice(_table_words(t.name))) for t in schema.tables.values()]
        self.columns = [name for t in schema.tables.values() for name in _column_names(t)]
        self._kept: dict[tuple[str, ...], list[tuple[Name, float]]] = {}

    def matching(self, phrase: tuple[str, ...]) -> list[tuple[Name, float]]:
        """Return the names that a phrase of stems may say, with scores up to 1, best first."""
        found = self._kept.get(phrase)
        if found is None:
            scored = [(name, match(phrase, name)) for name in (*self.tables, *self.columns)]
            found = sorted((pair for pair in scored if pair[1] >= 0.5), key=lambda pair: -pair[1])
            if len(self._kept) < 10_000:
                self._kept[phrase] = found
        return found


_ALONE: Final = frozenset(stem(word) for word in ("name", "date", "type", "code", "title"))
"""Light words that may stand for a longer name by themselves."""
_SPARE: Final = _ALONE | {stem("number"), stem("id")}
"""Light words that a question may add to a name ("phone number")."""
_LINKING: Final = frozenset({"of", "the", "a", "an", "and", "in"})


def _twice(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return words, words


def _table_words(name: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in parts(name))


def _column_names(table: Table) -> list[Name]:
    own_words = _table_words(table.name)
    own = set(own_words)
    referring = {name for key in table.foreign_keys for name in key.columns}
    words = {
        column: tuple(stem(word) for word in said if word not in _LINKING) or tuple(said)
        for column in table.columns
        if (said := parts(column)) is not None
    }
    shared = _shared_prefix(list(words.values()))
    names = []
    for column, stems in words.items():
        bare = tuple(word for word in stems[shared:] if word not in own) or stems[shared:] or stems
        full = () if column in referring else (*own_words, *bare)
        names.append(Name(table.name, column, stems[shared:] or stems, bare, full))
    return names


def _shared_prefix(all_stems: Sequence[tuple[str, ...]]) -> int:
    """Return how many first words every column of a table has in common."""
    if len(all_stems) < 3:
        return 0
    size = 0
    while all(len(stems) > size + 1 for stems in all_stems) and len({stems[size] for stems in all_stems}) == 1:
        size += 1
    return size


def match(phrase: tuple[str, ...], name: Name) -> float:
    """Return how well a phrase says a name, 0 to 1."""
    if phrase in (name.stems, name.bare, name.full):
        return 1.0 if phrase != name.bare or phrase == name.stems else 0.97
    if not phrase:
        return 0.0
    whole = max(_cover(phrase, name.stems), _cover(phrase, name.bare))
    return whole if name.column is not None else whole * 0.95


def _cover(phrase: tuple[str, ...], stems: tuple[str, ...]) -> float:
    """Score a phrase all of whose words are said by the name; what the name says beyond it costs by its weight."""
    left = list(stems)
    similar = 0.0
    for word in phrase:
        best = max(left, key=lambda other: likeness(word, other), default="")
        score = likeness(word, best)
        if score == 0.0 and not (word in _SPARE and len(phrase) > 1 and similar):
            return 0.0
        if score == 0.0:
            similar += 0.8
            continue
        similar += score
        left.remove(best)
    missing = sum(0.25 if word in _LIGHT else 1.0 for word in left)
    said = sum(0.25 if word in _LIGHT else 1.0 for word in phrase)
    if said < 0.5 and similar < len(phrase):
        return 0.0
    if said < 0.5 <= missing:
        return 0.5 if len(phrase) > 1 or phrase[0] in _ALONE else 0.0
    return similar / len(phrase) * (0.97 - 0.4 * missing / (missing + said))


@lru_cache(maxsize=100_000)
def likeness(word: str, other: str) -> float:
    """Return how much two stems say the same: 1 equal, 0.85 synonyms, less for a likely slip, 0 nothing."""
    if word == other:
        return 1.0
    if other in NEAR.get(word, ()):
        return 0.85
    if min(len(word), len(other)) >= 5:
        if fuzz.ratio(word, other) >= _FUZZY:
            return 0.8
        if min(len(word), len(other)) >= 6 and word[:6] == other[:6] and abs(len(word) - len(other)) <= 4:
            return 0.72
    return 0.0
