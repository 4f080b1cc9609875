"""What requests about SQL databases look like."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from quantum_db.requests import MAX_TIMEOUT_MS, Body, refuse
from quantum_db.scope import NAME

MAX_TEXT: Final = 65_536
MAX_STATEMENTS: Final = 50
MAX_ROWS: Final = 100_000

DatabaseName = Annotated[str, Field(pattern=f"^{NAME}$")]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
_EXAMPLE: Final[JsonDict] = {"database": "chinook", "question": "how many customers are there in each country?"}


class _Asked(Body):
    """Base: of which database, and within which bounds. What is left out is what the database's settings say."""

    database: DatabaseName
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] | None = None
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] | None = None
    optimize: bool = True


class _OneText(_Asked):
    question: Text | None = None
    sql: Text | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _OneText:
        if (self.question is None) == (self.sql is None):
            refuse("is needed: give either question, in words, or sql", "question")
        return self

    @property
    def text(self) -> str:
        """The question, or the statement."""
        return self.question or self.sql or ""


class SqlQueryBody(_OneText):
    """A question in words, or a statement that reads; with ``optimize`` joins may be run in an order of our own."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})


class SqlExplainBody(_OneText):
    """A question or a statement, of which it is asked what would be run."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})


class SqlBatchBody(_Asked):
    """Questions and statements that are answered together; ``timeout_ms`` is for all, ``max_rows`` for each."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "database": "chinook",
                "statements": ["how many artists are there?", "SELECT Name FROM Genre ORDER BY Name LIMIT 3"],
            }
        }
    )

    statements: Annotated[list[Text], Field(min_length=1, max_length=MAX_STATEMENTS)]


class SqlSchemaBody(Body):
    """Of which database the schema is wanted."""

    database: DatabaseName
