"""Words to SQL: amounts that are added up, words that carry a question, and orders to change something."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantum_db.errors import UnclearQuestion
from sql_synthesizer.engines.urls import open_engine
from sql_synthesizer.schema import Column, ColumnKind, ForeignKey, Schema, Table
from sql_synthesizer.words import Reading, Unclear, WordsReader
from sql_synthesizer.words.names import Names
from sql_synthesizer.words.refusing import order_to_write
from sql_synthesizer.words.tokens import tokenize
from sql_synthesizer.words.translating import WordsTranslator
from tests.unit.words_world import column, library, table

CHINOOK = Path(__file__).parents[2] / "data" / "sql" / "chinook.sqlite"
CUSTOMERS = (
    "Customer.FirstName, Customer.LastName FROM Customer JOIN Invoice ON Customer.CustomerId = Invoice.CustomerId"
)
EACH_CUSTOMER = "GROUP BY Customer.CustomerId, Customer.FirstName, Customer.LastName"
RANKED = f"SELECT {CUSTOMERS} {EACH_CUSTOMER} ORDER BY SUM(Invoice.Total) DESC"
INTEGER, REAL, TEXT = ColumnKind.INTEGER, ColumnKind.REAL, ColumnKind.TEXT


@pytest.fixture(scope="module")
def music() -> Schema:
    engine = open_engine(f"sqlite:///{CHINOOK}")
    try:
        return engine.schema()
    finally:
        engine.close()


@pytest.fixture(scope="module")
def reader(music: Schema) -> WordsReader:
    return WordsReader(music)


def answered(reader: WordsReader, question: str) -> Reading:
    found = reader.read(question)
    assert isinstance(found, Reading), found
    return found


def asked(reader: WordsReader, question: str) -> str:
    found = reader.read(question)
    assert isinstance(found, Unclear), found
    return found.question


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Find top customers by revenue", f"{RANKED} LIMIT 10"),
        ("Top customer by Revenue", f"{RANKED} LIMIT 1"),
        ("best customers by revenue", f"{RANKED} LIMIT 10"),
        ("top customers by total", f"{RANKED} LIMIT 10"),
        (
            "top 5 customers by invoice total",
            f"{RANKED} LIMIT 5",
        ),
        (
            "which customers spent the most?",
            f"{RANKED} LIMIT 1",
        ),
        (
            "customers who spent more than 40",
            f"SELECT {CUSTOMERS} {EACH_CUSTOMER} HAVING SUM(Invoice.Total) > 40",
        ),
        (
            "how many customers spent more than 45",
            "SELECT COUNT(*) FROM Customer WHERE Customer.CustomerId IN (SELECT Invoice.CustomerId FROM Invoice "
            "GROUP BY Invoice.CustomerId HAVING SUM(Invoice.Total) > 45)",
        ),
        (
            "top customers by revenue in 2010",
            f"SELECT {CUSTOMERS} WHERE Invoice.InvoiceDate >= '2010-01-01' AND Invoice.InvoiceDate < '2011-01-01' "
            f"{EACH_CUSTOMER} ORDER BY SUM(Invoice.Total) DESC LIMIT 10",
        ),
        (
            "show revenue per genre",
            "SELECT Genre.Name, SUM(InvoiceLine.UnitPrice * InvoiceLine.Quantity) FROM InvoiceLine "
            "JOIN Track ON InvoiceLine.TrackId = Track.TrackId JOIN Genre ON Track.GenreId = Genre.GenreId "
            "GROUP BY Genre.GenreId, Genre.Name",
        ),
        (
            "which artist earned the most",
            "SELECT Artist.Name FROM Artist JOIN Album ON Artist.ArtistId = Album.ArtistId "
            "JOIN Track ON Album.AlbumId = Track.AlbumId JOIN InvoiceLine ON Track.TrackId = InvoiceLine.TrackId "
            "GROUP BY Artist.ArtistId, Artist.Name "
            "ORDER BY SUM(InvoiceLine.UnitPrice * InvoiceLine.Quantity) DESC LIMIT 1",
        ),
        (
            "top 5 countries by revenue",
            "SELECT Customer.Country FROM Invoice JOIN Customer ON Invoice.CustomerId = Customer.CustomerId "
            "GROUP BY Customer.Country ORDER BY SUM(Invoice.Total) DESC LIMIT 5",
        ),
        ("what is the total revenue in 2010", "SELECT SUM(Invoice.Total) FROM Invoice "
         "WHERE Invoice.InvoiceDate >= '2010-01-01' AND Invoice.InvoiceDate < '2011-01-01'"),
        ("how much did each customer spend", "SELECT Customer.FirstName, Customer.LastName, SUM(Invoice.Total) "
         f"FROM Invoice JOIN Customer ON Invoice.CustomerId = Customer.CustomerId {EACH_CUSTOMER}"),
        (
            "top 3 customers by revenue and their revenue",
            f"{RANKED} LIMIT 3".replace(" FROM", ", SUM(Invoice.Total) FROM", 1),
        ),
        (
            "which customer has the most invoices",
            f"SELECT {CUSTOMERS} {EACH_CUSTOMER} ORDER BY COUNT(*) DESC LIMIT 1",
        ),
        ("customers per country", "SELECT Customer.Country, COUNT(*) FROM Customer GROUP BY Customer.Country"),
        (
            "top 3 artists by track length",
            "SELECT Artist.Name FROM Artist JOIN Album ON Artist.ArtistId = Album.ArtistId "
            "JOIN Track ON Album.AlbumId = Track.AlbumId GROUP BY Artist.ArtistId, Artist.Name "
            "ORDER BY SUM(Track.Milliseconds) DESC LIMIT 3",
        ),
    ],
)  # fmt: skip
def test_amounts_are_added_up(reader: WordsReader, question: str, expected: str) -> None:
    assert answered(reader, question).sql.replace('"', "") == expected


def test_tells_what_was_added_up_and_how_many_rows_top_means(reader: WordsReader) -> None:
    told = {link.words: link.what for link in answered(reader, "Find top customers by revenue").links}
    assert told["top"] == "LIMIT 10"
    assert told["revenue"] == "SUM(Invoice.Total)"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("customers by frobnication", ["frobnication"]),
        ("revenue per frobnication", ["frobnication"]),
        ("frobnication per customer", ["frobnication"]),
        ("total frobnication per customer", ["frobnication"]),
        ("average glorp of tracks", ["glorp"]),
        ("most frobnicated tracks", ["frobnicated"]),
        ("highest glorp of tracks", ["glorp"]),
        ("number of frobs per customer", ["frobs"]),
        ("which customers frobnicated the most?", ["frobnicated"]),
        ("top 3 frobs by revenue", ["frobs"]),
        ("tracks sorted by frobnication", ["frobnication"]),
        ("top customers by frobnication", ["frobnication"]),
        ("customers and their frobnication", ["frobnication"]),
        ("names and frobnication of tracks", ["frobnication"]),
        ("top customers", ["Customer", "come first"]),
        ("best customers", ["Customer", "best"]),
        ("highest revenue", ["revenue"]),
        ("show customers with no revenue", ["revenue", "Invoice"]),
        ("how many sales were there in 2010?", ["counted", "sales"]),
        ("average revenue per customer", ["avg", "revenue"]),
        ("top artists by track price", ["sum", "average"]),
    ],
)
def test_words_that_carry_a_question_are_asked_about(reader: WordsReader, question: str, words: list[str]) -> None:
    told = asked(reader, question)
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("question", "verb"),
    [
        ("delete all customers", "delete"),
        ("drop table Artist", "drop"),
        ("Update prices", "Update"),
        ("please remove the tracks", "remove"),
        ("Could you set the price to 0?", "set"),
        ("list customers; drop table Invoice", "drop"),
        ("show all tracks and delete them", "delete"),
    ],
)
def test_orders_to_change_something_are_refused(music: Schema, reader: WordsReader, question: str, verb: str) -> None:
    found = reader.read(question)
    assert isinstance(found, Unclear)
    assert found.readings == ()
    assert f'"{verb}"' in found.question
    with pytest.raises(UnclearQuestion, match="Nothing is ever changed"):
        WordsTranslator()(question, music)


@pytest.mark.parametrize("question", ["Add up the totals", "customers without deleted invoices", "show updates"])
def test_what_orders_nothing_is_read(music: Schema, question: str) -> None:
    assert order_to_write(tokenize(question), Names(music)) is None


def test_a_verb_that_the_schema_has_for_a_name_orders_nothing() -> None:
    schema = Schema("sqlite", {"update": table("update", column("id", INTEGER), column("text", TEXT))}, "1")
    assert order_to_write(tokenize("update texts"), Names(schema)) is None
    assert order_to_write(tokenize("delete texts"), Names(schema)) == "delete"


def _shop(*facts: Table) -> WordsReader:
    buyers = table("buyer", column("id", INTEGER), column("name", TEXT, ("Ann", "Bob")))
    return WordsReader(Schema("sqlite", {one.name: one for one in (buyers, *facts)}, "1"))


def _fact(name: str, *columns: Column, to: str = "buyer") -> Table:
    key = ForeignKey((f"{to}_id",), to, ("id",))
    return table(name, column("id", INTEGER), column(f"{to}_id", INTEGER), *columns, keys=(key,))


def test_asks_which_of_two_amounts_is_meant() -> None:
    reader = _shop(_fact("invoice", column("total", REAL)), _fact("donation", column("amount", REAL)))
    found = reader.read("top 3 buyers by revenue")
    assert isinstance(found, Unclear)
    assert "SUM(invoice.total)" in found.question
    assert "SUM(donation.amount)" in found.question
    assert len({reading.sql for reading in found.readings}) == 2


def test_lines_of_a_header_are_no_second_amount() -> None:
    lines = _fact("line", column("unit_price", REAL), column("quantity", INTEGER), to="invoice")
    reader = _shop(_fact("invoice", column("total", REAL)), lines)
    assert 'SUM("invoice"."total")' in answered(reader, "total revenue").sql


def test_without_an_amount_revenue_is_not_known() -> None:
    assert '"revenue"' in asked(WordsReader(library()), "top 3 readers by revenue")
    stock = table("item", column("id", INTEGER), column("price", REAL), column("quantity", INTEGER))
    assert '"revenue"' in asked(_shop(stock), "top 3 buyers by revenue")
    points = _fact("game", column("total_points", INTEGER))
    assert '"revenue"' in asked(_shop(points), "top 3 buyers by revenue")
