"""A question as tokens: words with stems, quoted text, numbers, dates and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

MAX_TOKENS: Final = 200


class TokenKind(StrEnum):
    """What a token is by its form alone."""

    WORD = "word"
    QUOTED = "quoted"
    NUMBER = "number"
    DATE = "date"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a question.

    Attributes:
        text: as written, without the quotes.
        kind: by its form.
        stem: the lower-case text; of a word, what its forms have in common.
        number: what a number or a number word is worth.
    """

    text: str
    kind: TokenKind
    stem: str
    number: float | None = None

    @property
    def lower(self) -> str:
        """The text in lower case."""
        return self.text.lower()

    @property
    def capital(self) -> bool:
        """Whether it is written like a name."""
        return self.text[:1].isupper()


_PATTERN: Final = re.compile(
    r"""(?P<quoted>"[^"]*"|“[^”]*”|`[^`]*`|(?<![\w])'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)|‘[^’]*’(?!\w))"""
    r"""|(?P<date>\d{4}-\d{2}-\d{2})"""
    r"""|(?P<number>\d[\d,]*\.?\d*(?:st|nd|rd|th|k|m|%)?(?![\w]))"""
    r"""|(?P<word>[^\W_][\w&]*(?:[.\-/'’](?=[^\W_]{1})[\w]+)*)"""
    r"""|(?P<sign><=|>=|!=|<>|[<>=?,;()])"""
)
_WORD_NUMBERS: Final = {
    word: float(n)
    for n, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"thirty": 30.0, "forty": 40.0, "fifty": 50.0, "dozen": 12.0}
_SCALES: Final = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "k": 1e3, "m": 1e6}
_IRREGULAR: Final = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "series": "series",
    "species": "species", "mice": "mouse", "indices": "index", "criteria": "criterion", "movies": "movie",
    "cookies": "cookie", "status": "status", "bus": "bus", "address": "address", "class": "class", "gas": "gas",
    "written": "write", "wrote": "write", "bought": "buy", "sold": "sell", "sang": "sing", "sung": "sing",
    "song": "song", "taught": "teach", "made": "make", "born": "birth", "flew": "fly", "flown": "fly",
    "went": "go", "gave": "give", "given": "give", "took": "take", "taken": "take", "won": "win", "lost": "lose",
    "left": "leave", "spent": "spend", "paid": "pay", "held": "hold", "led": "lead", "hiring": "hire",
    "media": "media", "analysis": "analysis", "data": "data", "lives": "live", "this": "this", "is": "is",
    "was": "was", "has": "has", "does": "does", "its": "its", "less": "less", "us": "us", "as": "as",
}  # fmt: skip


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return what the forms of an English word have in common: plural and verb endings go, in lower case."""
    lower = word.lower().removesuffix("'s").removesuffix("’s")
    if lower in _IRREGULAR:
        return _without_verb_ending(_IRREGULAR[lower])
    return _without_verb_ending(singular(lower))


def singular(lower: str) -> str:
    """Return the singular of a lower-case noun."""
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if lower == "ids":
        return "id"
    if len(lower) < 4 or lower.endswith(("ss", "us", "is")):
        return lower
    if lower.endswith("ies"):
        return lower[:-3] + "y"
    if lower.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return lower[:-2]
    return lower.removesuffix("s")


def _without_verb_ending(lower: str) -> str:
    for ending in ("ing", "ed"):
        if lower.endswith(ending) and len(lower) - len(ending) >= 3:
            base = lower.removesuffix(ending)
            if not re.search("[aeiouy]", base):
                return lower
            if base[-1] == base[-2] and base[-1] not in "lsz":
                return base[:-1]
            return base.removesuffix("e") if len(base) > 3 else base
    return lower.removesuffix("e") if len(lower) > 3 else lower


def tokenize(question: str) -> list[Token]:
    """Return the tokens of a question, at most ``MAX_TOKENS`` of them; a possessive loses its ``'s``."""
    tokens: list[Token] = []
    for match in _PATTERN.finditer(question):
        token = _token(match.lastgroup or "sign", match.group())
        if not _joined_to_last(tokens, token):
            tokens.append(token)
        if len(tokens) == MAX_TOKENS:
            break
    return tokens


def _token(group: str, text: str) -> Token:
    if group == "quoted":
        inner = text[1:-1].strip()
        return Token(inner, TokenKind.QUOTED, inner.lower())
    if group == "date":
        return Token(text, TokenKind.DATE, text)
    if group == "number":
        return Token(text, TokenKind.NUMBER, text.lower(), _worth(text))
    if group == "word":
        bare = re.sub(r"['’]s$", "", text)
        if bare.lower() in _WORD_NUMBERS:
            return Token(bare, TokenKind.NUMBER, bare.lower(), _WORD_NUMBERS[bare.lower()])
        return Token(bare, TokenKind.WORD, stem(bare))
    return Token(text, TokenKind.SIGN, text)


def _worth(text: str) -> float:
    match = re.match(r"([\d,]*\.?\d*)(\D*)$", text)
    assert match is not None  # the pattern of a number is stricter
    return float(match[1].replace(",", "").rstrip(".") or 0) * _SCALES.get(match[2].lower(), 1.0)


def _joined_to_last(tokens: list[Token], token: Token) -> bool:
    """Fold "5 million" and "a hundred thousand" into one number."""
    scale = _SCALES.get(token.lower) if token.kind is TokenKind.WORD else None
    if scale is None:
        return False
    last = tokens[-1] if tokens else None
    if last is not None and last.number is not None:
        tokens[-1] = Token(f"{last.text} {token.text}", TokenKind.NUMBER, last.stem, last.number * scale)
        return True
    if len(token.text) > 1 and last is not None and last.lower == "a":
        tokens[-1] = Token(f"a {token.text}", TokenKind.NUMBER, token.lower, scale)
        return True
    return False
