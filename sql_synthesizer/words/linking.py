"""A question cut into phrases, each with all that it may say of a schema, so that together they say most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sql_synthesizer.words.lexicon import LONGEST, PHRASES, STOP
from sql_synthesizer.words.names import Name, Names, parts
from sql_synthesizer.words.query import Target
from sql_synthesizer.words.roles import Op, Role
from sql_synthesizer.words.thesaurus import pieces
from sql_synthesizer.words.tokens import Token, TokenKind, singular, stem
from sql_synthesizer.words.values import MAX_VALUE_WORDS, StoredValue, ValueIndex

MAX_NAME_WORDS: Final = 6
_KEPT: Final = 12
_STARTS: Final = {"and", ",", "?", ".", ";", "please", "you", "then", "also"}
_WEAK: Final = {Role.IN, Role.OF, Role.WITH, Role.AND, Role.OR, Role.RELATIVE, Role.THEIR, Role.ALSO, Role.SENTENCE}


@dataclass(frozen=True, slots=True)
class Item:
    """A phrase of a question.

    Attributes:
        start: its first token.
        end: after its last token.
        text: as written.
        op: what it does, if it belongs to the closed class.
        names: tables and columns it may say, best first, with scores.
        values: stored values it may say.
        number: what it is worth.
        date: as YYYY-MM-DD.
        literal: quoted or capitalised text.
        quoted: whether the literal was quoted.
        measure: what an amount is the sum of that no column is called by.
    """

    start: int
    end: int
    text: str
    op: Op | None = None
    names: tuple[tuple[Name, float], ...] = ()
    values: tuple[StoredValue, ...] = ()
    number: float | None = None
    date: str | None = None
    literal: str | None = None
    quoted: bool = False
    measure: Target | None = None

    def is_(self, *roles: Role) -> bool:
        """Whether the phrase does one of these."""
        return self.op is not None and self.op.role in roles

    @property
    def table(self) -> tuple[Name, float] | None:
        """The table it says best, if any."""
        return next((pair for pair in self.names if pair[0].column is None), None)

    @property
    def columns(self) -> list[tuple[Name, float]]:
        """The columns it may say, best first."""
        return [pair for pair in self.names if pair[0].column is not None]

    @property
    def unknown(self) -> bool:
        """Whether nothing is known of it."""
        told = self.op or self.names or self.values or self.date or self.literal or self.measure
        return not told and self.number is None


class Linker:
    """Finds what the phrases of a question may say of one schema."""

    def __init__(self, names: Names, values: ValueIndex | None) -> None:
        """Link against these names and, if there are any, values."""
        self._names = names
        self._values = values

    def items(self, tokens: Sequence[Token]) -> list[Item]:
        """Cut the tokens into the phrases that say most; words that say nothing are left out."""
        tokens = self._whole_names(tokens)
        best: list[tuple[float, Item | None, int]] = [(0.0, None, 0)]
        for end in range(1, len(tokens) + 1):
            options: list[tuple[float, Item | None, int]] = []
            for start in range(max(0, end - max(LONGEST, MAX_VALUE_WORDS)), end):
                item, weight = self._phrase(tokens, start, end)
                if item is not None:
                    options.append((best[start][0] + weight, item, start))
            if not options:
                options.append((best[end - 1][0], self._alone(tokens, end - 1), end - 1))
            best.append(max(options, key=lambda option: option[0]))
        return _merged_names(list(reversed(_walk(best))))

    def _whole_names(self, tokens: Sequence[Token]) -> Sequence[Token]:
        """Write "first and last name" as "first name and last name" where both are columns."""
        whole: list[Token] = []
        for at, token in enumerate(tokens):
            whole.append(token)
            if at + 3 < len(tokens) and tokens[at + 1].lower in {"and", "or"}:
                noun = tokens[at + 3].stem
                if all(self._column_named((side.stem, noun)) for side in (token, tokens[at + 2])):
                    whole.append(tokens[at + 3])
        return whole

    def _column_named(self, stems: tuple[str, ...]) -> bool:
        return any(name.column is not None and score >= 0.97 for name, score in self._names.matching(stems)[:3])

    def _phrase(self, tokens: Sequence[Token], start: int, end: int) -> tuple[Item | None, float]:
        span = tokens[start:end]
        text = " ".join(token.text for token in span)
        op = PHRASES.get(tuple(token.lower for token in span)) if span[0].kind is not TokenKind.QUOTED else None
        op_weight = ((0.8 if op.role not in _WEAK else 0.5) * len(span) + 0.1 * (len(span) - 1)) if op else 0.0
        if op is not None and op.role is Role.COUNT:
            op_weight = 1.75 if span[0].lower == "total" or len(span) > 3 else 0.8
        names = self._named(span)
        if op is not None and op.role is Role.ASK and names and start > 0 and tokens[start - 1].lower not in _STARTS:
            op = None
        values = self._valued(tokens, start, end)
        content = sum(token.lower not in STOP and token.kind is not TokenKind.SIGN for token in span)
        name_weight = _name_weight(names, span, content)
        value_weight = max((v.score for v in values), default=0.0) * len(span) + 0.1 * (len(span) - 1)
        weak_name = bool(names) and names[0][1] < 0.9 and len(span) == 1
        if op is not None and (op_weight >= max(name_weight, value_weight) or (weak_name and not values)):
            return Item(start, end, text, op=op), op_weight
        if names or values:
            number = span[0].number if len(span) == 1 else None
            literal = text if span[0].kind is TokenKind.QUOTED else None
            names = names if name_weight >= value_weight * 0.85 else ()
            values = values if value_weight >= name_weight * 0.85 else ()
            return Item(
                start, end, text, names=names, values=values, number=number, literal=literal, quoted=bool(literal)
            ), max(name_weight, value_weight)
        return (self._alone(tokens, start), 0.0) if len(span) == 1 else (None, 0.0)

    def _alone(self, tokens: Sequence[Token], at: int) -> Item | None:
        token = tokens[at]
        if token.kind is TokenKind.QUOTED:
            return Item(at, at + 1, token.text, literal=token.text, quoted=True)
        if token.kind is TokenKind.NUMBER:
            return Item(at, at + 1, token.text, number=token.number)
        if token.kind is TokenKind.DATE:
            return Item(at, at + 1, token.text, date=token.text)
        if token.kind is TokenKind.SIGN or token.lower in STOP:
            return None
        return Item(at, at + 1, token.text, literal=token.text if token.capital and at > 0 else None)

    def _named(self, span: Sequence[Token]) -> tuple[tuple[Name, float], ...]:
        if len(span) > MAX_NAME_WORDS or any(t.kind in {TokenKind.QUOTED, TokenKind.DATE} for t in span):
            return ()
        if span[0].lower in STOP or span[-1].lower in STOP or any(t.kind is TokenKind.SIGN for t in span):
            return ()
        said = [t for t in span if t.lower not in STOP and t.lower not in {"of", "for", "in"}]
        phrase = tuple(part for t in said for part in _stems(t))
        if not phrase or (len(span) == 1 and span[0].number is not None):
            return ()
        return tuple(self._names.matching(phrase)[:_KEPT])

    def _valued(self, tokens: Sequence[Token], start: int, end: int) -> tuple[StoredValue, ...]:
        span = tokens[start:end]
        if self._values is None or len(span) > MAX_VALUE_WORDS:
            return ()
        text = " ".join(token.text for token in span)
        quoted = span[0].kind is TokenKind.QUOTED
        if (
            any(t.kind is TokenKind.QUOTED for t in span[1:])
            or (quoted and len(span) > 1)
            or (not quoted and any(t.kind is TokenKind.SIGN for t in (span[0], span[-1])))
        ):
            return ()
        named = quoted or (any(t.capital for t in span) and start > 0)
        if len(span) == 1 and not quoted and (span[0].lower in STOP or len(text) < 2) and not (named and text != "I"):
            return ()
        if len(span) == 1 and not named and tuple(t.lower for t in span) in PHRASES:
            return ()
        if len(span) > 1 and (span[0].lower in STOP or span[-1].lower in STOP) and not named:
            return ()
        found = self._values.whole(text) + (self._of_table(span) if len(span) > 1 else [])
        if not found and quoted:
            found = self._values.similar(text) or self._values.containing(text)
        if not found and named and all(t.capital for t in span):
            found = self._values.similar(text) or self._values.containing(text)
        return tuple(found[:_KEPT])

    def _of_table(self, span: Sequence[Token]) -> list[StoredValue]:
        """Return the values of a table whose name ends the phrase ("Rhine River")."""
        assert self._values is not None  # the caller saw it
        tables = {name.table for name, score in self._named(span[-1:]) if name.column is None and score >= 0.97}
        if not tables:
            return []
        found = self._values.whole(" ".join(token.text for token in span[:-1]))
        return [
            replace(v, score=v.score + 0.03)
            for v in found
            if v.table in tables and parts(v.column)[-1:] in (["name"], ["title"])
        ]


def _stems(token: Token) -> list[str]:
    """Return the stems of the known parts of a word that is written together, or its own."""
    cut = pieces(singular(token.lower))
    return [stem(part) for part in cut] if len(cut) > 1 else [token.stem]


def _name_weight(names: Sequence[tuple[Name, float]], span: Sequence[Token], content: int) -> float:
    if not names:
        return 0.0
    inner = any(token.lower in STOP or token.lower in {"of", "for", "in"} for token in span)
    content -= sum(token.lower in {"of", "for", "in"} for token in span)
    return names[0][1] * content * (0.9 if inner else 1.0) + 0.1 * (content - 1)


def _walk(best: Sequence[tuple[float, Item | None, int]]) -> list[Item]:
    items = []
    end = len(best) - 1
    while end > 0:
        _, item, start = best[end]
        if item is not None:
            items.append(item)
        end = start
    return items


def _merged_names(items: Sequence[Item]) -> list[Item]:
    """Join capitalised words that stand together into one literal."""
    merged: list[Item] = []
    for item in items:
        last = merged[-1] if merged else None
        if (
            last is not None
            and item.literal and last.literal and last.end == item.start
            and not (item.quoted or last.quoted or item.values or last.values or item.names or last.names)
        ):  # fmt: skip
            text = f"{last.literal} {item.literal}"
            merged[-1] = Item(last.start, item.end, text, literal=text)
        else:
            merged.append(item)
    return merged
