"""The values of text columns, to be found by what a question says of them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from rapidfuzz import fuzz, process

from sql_synthesizer.schema import ColumnKind, Schema
from sql_synthesizer.words.tokens import singular

MAX_VALUE_WORDS: Final = 10
_FUZZY: Final = 88.0
_MAX_FUZZY: Final = 50_000
_STATES: Final = """
al alabama; ak alaska; az arizona; ar arkansas; ca california; co colorado; ct connecticut; de delaware;
fl florida; ga georgia; hi hawaii; id idaho; il illinois; in indiana; ia iowa; ks kansas; ky kentucky; la
louisiana; me maine; md maryland; ma massachusetts; mi michigan; mn minnesota; ms mississippi; mo
missouri; mt montana; ne nebraska; nv nevada; nh new hampshire; nj new jersey; nm new mexico; ny new york;
nc north carolina; nd north dakota; oh ohio; ok oklahoma; or oregon; pa pennsylvania; ri rhode island; sc
south carolina; sd south dakota; tn tennessee; tx texas; ut utah; vt vermont; va virginia; wa washington;
wv west virginia; wi wisconsin; wy wyoming
"""
_PLACES: Final[dict[str, tuple[str, ...]]] = {
    "usa": ("united states", "united states of america", "us", "u s", "u s a"),
    "uk": ("united kingdom", "great britain"),
    "american": ("usa", "united states", "us"), "british": ("uk", "united kingdom"), "french": ("france",),
    "german": ("germany",), "italian": ("italy",), "spanish": ("spain",), "dutch": ("netherlands",),
    "chinese": ("china",), "japanese": ("japan",), "canadian": ("canada",), "mexican": ("mexico",),
    "brazilian": ("brazil",), "indian": ("india",), "russian": ("russia",), "australian": ("australia",),
    "swedish": ("sweden",), "polish": ("poland",), "irish": ("ireland",), "european": ("europe",),
    "asian": ("asia",), "african": ("africa",), "portuguese": ("portugal",), "belgian": ("belgium",),
    "danish": ("denmark",), "norwegian": ("norway",), "finnish": ("finland",), "greek": ("greece",),
    "hungarian": ("hungary",), "austrian": ("austria",), "swiss": ("switzerland",), "korean": ("korea",),
    "argentinian": ("argentina",), "male": ("m",), "female": ("f",), "man": ("male", "m"), "woman": ("female", "f"),
    "boy": ("male", "m"), "girl": ("female", "f"), "men": ("male", "m"), "women": ("female", "f"),
}  # fmt: skip
for _pair in _STATES.split(";"):
    _code, _, _name = " ".join(_pair.split()).partition(" ")
    _PLACES[_name] = (_code,)


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value where it is stored.

    Attributes:
        table: of its column.
        column: that holds it.
        value: as stored.
        score: how well the question's words say it, up to 1.
        part: whether the words are only a part of the value.
    """

    table: str
    column: str
    value: str
    score: float = 1.0
    part: bool = False


def words_of(text: str) -> tuple[str, ...]:
    """Return the lower-case words and numbers of a text, without signs."""
    return tuple(re.findall(r"[^\W_]+", text.lower()))


class ValueIndex:
    """The distinct values of text columns by their words.

    It holds those that ``Column.values`` has, and so nothing of a column that is hidden or has too many values.
    """

    def __init__(self, schema: Schema) -> None:
        """Read the values that the schema has."""
        self._whole: dict[tuple[str, ...], list[StoredValue]] = defaultdict(list)
        self._part: dict[str, list[StoredValue]] = defaultdict(list)
        for table in schema.tables.values():
            for column in table.columns.values():
                if column.kind in {ColumnKind.TEXT, ColumnKind.OTHER}:
                    for value in column.values:
                        self._add(StoredValue(table.name, column.name, value))
        self._texts = [" ".join(words) for words in self._whole] if len(self._whole) <= _MAX_FUZZY else []

    def _add(self, stored: StoredValue) -> None:
        words = words_of(stored.value)
        if not words or len(words) > MAX_VALUE_WORDS:
            return
        self._whole[words].append(stored)
        for word in set(words):
            if len(words) > 1 and len(word) > 2:
                self._part[word].append(stored)

    def whole(self, text: str) -> list[StoredValue]:
        """Return the values that the text is, whatever its case and signs, or of which it is a plural or a kin."""
        words = words_of(text)
        found = self._scored(words, 1.0)
        if not found and words:
            found = self._scored((*words[:-1], singular(words[-1])), 0.95)
        if not found:
            for other in _PLACES.get(" ".join(words), ()) or _PLACES.get(singular(" ".join(words)), ()):
                found += self._scored(words_of(other), 0.85)
        if not found and len(words) > 1:
            known_as = next((key for key, others in _PLACES.items() if " ".join(words) in others), "")
            found = self._scored((known_as,), 0.9)
        return found

    def _scored(self, words: tuple[str, ...], score: float) -> list[StoredValue]:
        return [StoredValue(v.table, v.column, v.value, score) for v in self._whole.get(words, ())]

    def containing(self, text: str) -> list[StoredValue]:
        """Return the values of several words in which the text's words stand together."""
        words = words_of(text)
        if not words:
            return []
        joined = " ".join(words)
        hits = self._part.get(max(words, key=len), ())
        inside = [v for v in hits if f" {joined} " in f" {' '.join(words_of(v.value))} "]
        return [StoredValue(v.table, v.column, v.value, 0.7, part=True) for v in inside]

    def similar(self, text: str) -> list[StoredValue]:
        """Return the values that the text may be with a slip of the pen."""
        joined = " ".join(words_of(text))
        if len(joined) < 5:
            return []
        best = process.extractOne(joined, self._texts, scorer=fuzz.ratio, score_cutoff=_FUZZY)
        return self._scored(tuple(best[0].split()), best[1] / 100 * 0.9) if best else []
