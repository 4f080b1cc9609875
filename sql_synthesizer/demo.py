"""The demo of the synthesizer, ``make demo-sql``: questions and SQL on a database that ships, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from quantum_db.errors import SqlInvalid
from sql_synthesizer.agent import QueryAgent
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.printing import print_result, print_tables

CHINOOK: Final = Path(__file__).resolve().parent.parent / "data" / "sql" / "chinook.sqlite"
SHOWN: Final = 5
"""Rows of each answer."""
HIDDEN: Final = ("Customer.Email", "Customer.Phone", "Employee.BirthDate")
QUESTIONS: Final = (
    "how many customers are there in each country?",
    "artists without albums",
    "average invoice total per country, highest first",
    "tracks longer than the average",
)
STATEMENTS: Final = (
    """SELECT Artist.Name, count(*) AS albums FROM Artist JOIN Album USING (ArtistId)
       GROUP BY Artist.Name ORDER BY albums DESC LIMIT 5""",
    """SELECT c.Country, round(sum(i.Total), 2) AS revenue, count(DISTINCT c.CustomerId) AS customers
       FROM Customer c JOIN Invoice i ON i.CustomerId = c.CustomerId
       GROUP BY c.Country ORDER BY revenue DESC LIMIT 5""",
    """SELECT g.Name AS genre, round(sum(l.UnitPrice * l.Quantity), 2) AS revenue
       FROM InvoiceLine l JOIN Track t ON t.TrackId = l.TrackId JOIN Genre g ON g.GenreId = t.GenreId
       GROUP BY g.Name HAVING revenue > (SELECT avg(Total) FROM Invoice) ORDER BY revenue DESC LIMIT 5""",
    "SELECT * FROM Customer WHERE LastName LIKE 'G%' LIMIT 2",
)
REFUSED: Final = (
    "SELECT Email FROM Customer",
    "DELETE FROM Invoice",
    "SELECT * FROM Artist; DROP TABLE Artist",
    "SELECT load_extension('/tmp/x')",
)


def main() -> int:
    """Run the demo; return the exit code."""
    agent = QueryAgent(f"sqlite:///{CHINOOK}", hidden=HIDDEN)
    try:
        print_tables(agent.engine.schema())
        for text in (*QUESTIONS, *STATEMENTS):
            result = agent.answer(text, Limits(max_rows=SHOWN), explain=True)
            print(f"\n{text}\n" if text in QUESTIONS else "")
            print(result.sql)
            print_result(result)
            if result.plan is not None:
                print("SQLite's plan:\n" + "\n".join(f"  {line}" for line in result.plan.text.splitlines()))
        print(f"\nHidden here: {', '.join(HIDDEN)}. What is refused, and why:")
        for sql in REFUSED:
            print(f"  {sql}\n    {reason(agent, sql)}")
    finally:
        agent.close()
    return 0


def reason(agent: QueryAgent, sql: str) -> str:
    """Return why a statement is refused. Raises AssertionError for one that is not."""
    try:
        agent.answer(sql)
    except SqlInvalid as error:
        return error.detail
    raise AssertionError(f"{sql} ran")


if __name__ == "__main__":
    sys.exit(main())
