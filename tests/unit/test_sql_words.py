"""Words to SQL over a small library."""

from __future__ import annotations

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from quantum_db.errors import AmbiguousQuestion, InvalidRequest, UnclearQuestion
from sql_synthesizer.words import Reading, Unclear, ValueIndex, WordsReader, to_sql
from sql_synthesizer.words.keys import KeyGraph
from sql_synthesizer.words.lexicon import PHRASES
from sql_synthesizer.words.names import Names, parts
from sql_synthesizer.words.query import ColumnRef
from sql_synthesizer.words.tokens import TokenKind, stem, tokenize
from sql_synthesizer.words.translating import WordsTranslator
from tests.unit.words_world import library

SCHEMA = library()
READER = WordsReader(SCHEMA, threshold=0.0)


def sql(question: str, reader: WordsReader = READER) -> str:
    found = reader.read(question)
    reading = found if isinstance(found, Reading) else found.readings[0]
    return reading.sql.replace('"', "")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What are the titles of all books?", "SELECT book.title FROM book"),
        ("How many books are there?", "SELECT COUNT(*) FROM book"),
        (
            "Show the first and last name of readers from Lima",
            "SELECT reader.first_name, reader.last_name FROM reader WHERE reader.city = 'Lima'",
        ),
        ("Which books have more than 300 pages?", "SELECT book.title FROM book WHERE book.num_pages > 300"),
        (
            "Titles of books between 100 and 200 pages",
            "SELECT book.title FROM book WHERE book.num_pages BETWEEN 100 AND 200",
        ),
        (
            "What is the average price of books for each genre?",
            "SELECT book.genre, AVG(book.price) FROM book GROUP BY book.genre",
        ),
        (
            "Which writer has the most books?",
            "SELECT writer.name FROM writer JOIN book ON writer.id = book.writer_id "
            "GROUP BY writer.id, writer.name ORDER BY COUNT(*) DESC LIMIT 1",
        ),
        (
            "How many books did each writer write?",
            "SELECT writer.name, COUNT(*) FROM book JOIN writer ON book.writer_id = writer.id "
            "GROUP BY writer.id, writer.name",
        ),
        ("Who is the youngest writer?", "SELECT writer.name FROM writer ORDER BY writer.birth_year DESC LIMIT 1"),
        ("What are the 3 most expensive books?", "SELECT book.title FROM book ORDER BY book.price DESC LIMIT 3"),
        ("List books by title in descending order", "SELECT book.title FROM book ORDER BY book.title DESC"),
        (
            "Which genres have at least 2 books?",
            "SELECT book.genre FROM book GROUP BY book.genre HAVING COUNT(*) >= 2",
        ),
        (
            "How many loans were made in 2021?",
            "SELECT COUNT(*) FROM loan WHERE loan.loan_date >= '2021-01-01' AND loan.loan_date < '2022-01-01'",
        ),
        (
            "Books published before 2000 or after 2010",
            "SELECT book.title FROM book WHERE (book.published < '2000-01-01' OR book.published >= '2011-01-01')",
        ),
        (
            "Which books are cheaper than the average?",
            "SELECT book.title FROM book WHERE book.price < (SELECT AVG(book.price) FROM book)",
        ),
        (
            "List writers without books",
            "SELECT writer.name FROM writer WHERE NOT writer.id IN "
            "(SELECT book.writer_id FROM book WHERE NOT book.writer_id IS NULL)",
        ),
        (
            "Which readers have never borrowed a book?",
            "SELECT reader.first_name, reader.last_name FROM reader WHERE NOT reader.id IN (SELECT loan.reader_id "
            "FROM loan JOIN book ON loan.book_id = book.id WHERE NOT loan.reader_id IS NULL)",
        ),
        (
            "Which readers have friend Gil?",
            "SELECT reader.first_name, reader.last_name FROM reader WHERE reader.friend_id IN "
            "(SELECT reader.id FROM reader WHERE reader.first_name = 'Gil')",
        ),
        (
            "Which writers wrote both crime books and poetry books?",
            "SELECT writer.name FROM writer WHERE "
            "writer.id IN (SELECT book.writer_id FROM book WHERE book.genre = 'crime') "
            "AND writer.id IN (SELECT book.writer_id FROM book WHERE book.genre = 'poetry')",
        ),
        (
            "writers from Kenya or Peru",
            "SELECT writer.name FROM writer WHERE (writer.country = 'Kenya' OR writer.country = 'Peru')",
        ),
        ("Number of different countries of writers", "SELECT COUNT(DISTINCT writer.country) FROM writer"),
        (
            "Which readers are members?",
            "SELECT reader.first_name, reader.last_name FROM reader WHERE reader.is_member = 1",
        ),
        ("books that are not poetry", "SELECT book.title FROM book WHERE NOT book.genre = 'poetry'"),
        ("titles that start with D", "SELECT book.title FROM book WHERE LOWER(book.title) LIKE 'd%'"),
        (
            "What share of readers live in Paris?",
            "SELECT 100.0 * CAST((SELECT COUNT(*) FROM reader WHERE reader.city = 'Paris') AS REAL) / "
            "NULLIF((SELECT COUNT(*) FROM reader), 0)",
        ),
    ],
)
def test_reads(question: str, expected: str) -> None:
    assert sql(question) == expected


def test_rows_whose_key_is_null_belong_to_nothing() -> None:
    found = sql("Which books have no writer?")
    assert "book.writer_id IS NULL OR NOT book.writer_id IN" in found


def test_finds_keys_that_nobody_declared() -> None:
    reader = WordsReader(library(declared=False), threshold=0.0)
    assert "JOIN book ON writer.id = book.writer_id" in sql("Which writer has the most books?", reader)


@pytest.mark.parametrize(
    ("dialect", "expected"), [("sqlite", ">= '2021-01-01'"), ("duckdb", ">= CAST('2021-01-01' AS DATE)")]
)
def test_dates_are_written_for_the_dialect(dialect: str, expected: str) -> None:
    assert expected in sql("How many loans were made in 2021?", WordsReader(library(dialect), threshold=0.0))


def test_tells_what_was_taken_for_what() -> None:
    found = READER.read("Show the names of writers from Kenya")
    assert isinstance(found, Reading)
    told = {link.words: link.what for link in found.links}
    assert told["names"] == "writer.name"
    assert told["Kenya"] == "writer.country = Kenya"
    assert all(0.0 < link.score <= 1.0 for link in found.links)


def test_asks_which_of_two_is_meant() -> None:
    found = to_sql("Which loans are of Paris?", SCHEMA)
    assert isinstance(found, Unclear)
    assert len({reading.sql for reading in found.readings}) == 2
    assert "book.title" in found.question
    assert "reader.city" in found.question


def test_asks_back_what_it_does_not_know() -> None:
    found = WordsReader(SCHEMA, threshold=0.9).read("Show the frobnicated glorp of books with sprockets")
    assert isinstance(found, Unclear)
    assert '"frobnicated"' in found.question
    nothing = to_sql("wibble wobble", SCHEMA)
    assert isinstance(nothing, Unclear)
    assert nothing.readings == ()


def test_is_surer_of_what_it_knows() -> None:
    sure, unsure = READER.read("How many books are there?"), READER.read("Show dusty tomes of genre folks")
    assert isinstance(sure, Reading)
    doubted = unsure if isinstance(unsure, Reading) else unsure.readings[0]
    assert sure.confidence > doubted.confidence + 0.2


@pytest.mark.parametrize("question", ["", "  ", "x" * 1001])
def test_refuses_what_is_no_question(question: str) -> None:
    with pytest.raises(InvalidRequest, match="question"):
        READER.read(question)


def test_translates_for_the_agent() -> None:
    translate = WordsTranslator()
    found = translate("How many books are there?", SCHEMA)
    assert found.sql == 'SELECT COUNT(*) FROM "book"'
    assert any("book" in line for line in found.explanation)
    with pytest.raises(AmbiguousQuestion) as raised:
        translate("Which loans are of Paris?", SCHEMA)
    assert len(raised.value.errors) == 2
    with pytest.raises(UnclearQuestion):
        translate("wibble wobble", SCHEMA)


WORDS = [
    *(" ".join(phrase) for phrase in PHRASES),
    *("books", "book", "writer", "writers", "readers", "loans", "titles", "price", "pages", "genre", "crime", "Paris"),
    *("Gil", "country", "friend", "members", "1999", "3", "2020-05-01", '"Dust"', "'x'", "March", "5%"),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9))
def test_whatever_is_asked_only_reads_the_schema(words: list[str]) -> None:
    found = READER.read(" ".join(words))
    for reading in [found] if isinstance(found, Reading) else found.readings:
        tree = sqlglot.parse_one(reading.sql, read="sqlite")
        assert isinstance(tree, exp.Query)
        assert {name.name for name in tree.find_all(exp.Table)} <= set(SCHEMA.tables)
        for ref in tree.find_all(exp.Column):
            assert ref.name in SCHEMA.tables[ref.table].columns
        assert 0.0 <= reading.confidence <= 1.0


def test_tokens() -> None:
    tokens = tokenize("What's \"Bob's\" readers' share of 5 million on 2023-04-01?")
    assert [(t.text, t.kind) for t in tokens][:3] == [
        ("What", TokenKind.WORD),
        ("Bob's", TokenKind.QUOTED),
        ("readers", TokenKind.WORD),
    ]
    assert [t.number for t in tokens if t.number is not None] == [5e6]
    assert [t.text for t in tokens if t.kind is TokenKind.DATE] == ["2023-04-01"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("cities", "city"), ("hired", "hire"), ("running", "run"), ("people", "person"), ("movies", "movie")],
)
def test_forms_of_a_word_have_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("birthDate", ["birth", "date"]),
        ("lastname", ["last", "name"]),
        ("cust_qty", ["customer", "quantity"]),
        ("HTTPPort2", ["http", "port", "2"]),
    ],
)
def test_names_are_words(name: str, words: list[str]) -> None:
    assert parts(name) == words


def test_names_are_found_by_their_words_by_others_and_by_slips() -> None:
    names = Names(SCHEMA)

    def said(*words: str) -> set[tuple[str, str | None]]:
        found = names.matching(tuple(stem(word) for word in words))
        return {(name.table, name.column) for name, score in found if score >= 0.6}

    assert ("writer", "birth_year") in said("birth", "year")
    assert ("writer", None) in said("author")
    assert ("book", "published") in said("publisched")
    assert not said("sprocket")


def test_values_are_found_whole_in_part_and_with_slips() -> None:
    values = ValueIndex(SCHEMA)
    assert {(v.table, v.column) for v in values.whole("paris")} == {("book", "title"), ("reader", "city")}
    assert [v.value for v in values.whole("French")] == ["France"]
    assert [v.value for v in values.containing("Okri")] == ["Ben Okri"]
    assert [v.value for v in values.similar("Cleo Ruis")] == ["Cleo Ruiz"]
    assert values.similar("Nobody Here") == []


def test_ways_of_keys() -> None:
    graph = KeyGraph(SCHEMA)
    way = graph.path(("writer",), "reader")
    assert way is not None
    assert [step.target for step in way] == ["book", "loan", "reader"]
    assert [step.to_one for step in way] == [False, False, True]
    assert graph.path(("book",), "nowhere") is None
    own = graph.path(("reader",), "reader")
    assert own is not None
    assert own[0].source_columns == ("friend_id",)


def test_of_parallel_keys_the_one_that_is_said_is_taken() -> None:
    schema = library()
    loan = schema.tables["loan"]
    second = type(loan.foreign_keys[0])(("reader_id",), "book", ("id",))
    tables = {**schema.tables, "loan": type(loan)(loan.name, loan.columns, ("id",), (*loan.foreign_keys, second), 6)}
    graph = KeyGraph(type(schema)("sqlite", tables, "2"))
    plain = graph.path(("loan",), "book", {stem("book")})
    said = graph.path(("loan",), "book", {stem("reader")})
    avoided = graph.path(("book",), "loan", (), {ColumnRef("loan", "book_id")})
    assert plain is not None
    assert said is not None
    assert avoided is not None
    assert plain[0].source_columns == ("book_id",)
    assert said[0].source_columns == ("reader_id",)
    assert avoided[0].target_columns == ("reader_id",)
