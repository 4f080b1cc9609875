"""Log lines of the command line: text for people or one JSON object a line for programs, on standard error."""

from __future__ import annotations

import logging
from typing import Any, Final, Literal

import orjson

LOGGER: Final = logging.getLogger("sql_synthesizer")
FACTS: Final = "facts"
"""Of a log record: what it tells beside its message, as keys and values."""


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """The message, and what it tells beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        facts = " ".join(f"{name}={value}" for name, value in getattr(record, FACTS, {}).items())
        return f"{record.levelname.lower()}: {record.getMessage()} {facts}".rstrip()


def set_up_logs(level: str, form: Literal["text", "json"]) -> None:
    """Write log lines from this level on, in this form, and in no other."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False


def log(level: int, message: str, **facts: object) -> None:
    """Write a line with facts."""
    LOGGER.log(level, message, extra={FACTS: facts})
