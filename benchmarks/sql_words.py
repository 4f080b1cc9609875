"""Questions in words against gold SQL: ``python -m benchmarks.sql_words --database x.sqlite --questions q.json``.

Right means that the rows are the gold's: as a multiset, with the columns in any order. The table also has the looser
(sets of rows) and the stricter measure (rows in order where the gold orders), and the precision at each coverage: the
questions of highest confidence first. The peer is a one-pass linker of names and values with one template, untuned.

Question files: a list (or {"questions": [...]}) of objects with "question", "sql" or "query" (one, or several that
are all right), and if wanted "category" and "db_id"; then --database is a folder of <db_id>.sqlite or
<db_id>/<db_id>.sqlite. A file with a "script" of statements makes its own database. Without options the project's own
files are measured. Several pairs of --database and --questions are measured one after the other, and --fit fits the
weights of the confidence on all of them, each database judged by the weights of the others.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from benchmarks.sql_words_fit import fit_and_judge
from benchmarks.sql_words_peer import OnePassLinker
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.sqlite import SqliteEngine
from sql_synthesizer.schema import Schema
from sql_synthesizer.words import Reading, Unclear, WordsReader

Row = tuple[Any, ...]
STATEMENT_S = 5.0
MAX_ROWS = 50_000
COVERAGES = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass
class Question:
    database: Path
    text: str
    gold: list[str]
    category: str = ""


@dataclass
class Outcome:
    """What came of one question: right by each measure, the confidence, and whether it was answered or asked back."""

    question: Question
    single: bool
    answered: bool = False
    confidence: float = 0.0
    multiset: bool = False
    as_set: bool = False
    in_order: bool = False
    seconds: float = 0.0
    sql: str = ""
    features: dict[str, float] = field(default_factory=dict)


def load(database: Path, questions: Path) -> list[Question]:
    found = json.loads(questions.read_text(encoding="utf-8"))
    entries = found["questions"] if isinstance(found, dict) else found
    if isinstance(found, dict) and "script" in found:
        folder = tempfile.mkdtemp(prefix="sql-words-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        database = Path(folder) / f"{questions.stem}.sqlite"
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript("\n".join(found["script"]))
    return [
        Question(_database(database, entry), entry["question"], _gold(entry), str(entry.get("category", "")))
        for entry in entries
    ]


def _database(given: Path, entry: dict[str, Any]) -> Path:
    if not given.is_dir():
        return given
    name = entry["db_id"]
    return next(p for p in (given / f"{name}.sqlite", given / name / f"{name}.sqlite") if p.is_file())


def _gold(entry: dict[str, Any]) -> list[str]:
    gold = entry.get("sql") or entry.get("query") or ""
    return [gold] if isinstance(gold, str) else list(gold)


class Database:
    """A SQLite file, its schema and the readers over it."""

    def __init__(self, path: Path) -> None:
        engine = SqliteEngine(path, reflection=Reflection())
        self.schema: Schema = engine.schema()
        engine.close()
        self.reader = WordsReader(self.schema)
        self.peer = OnePassLinker(self.schema)
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")

    def rows(self, sql: str) -> list[Row] | None:
        """Return the rows, None where the statement does not run (in time)."""
        end = time.monotonic() + STATEMENT_S
        self._connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            return [tuple(map(_plain, row)) for row in self._connection.execute(sql).fetchmany(MAX_ROWS)]
        except sqlite3.Error:
            return None


def _plain(value: Any) -> Any:
    return round(float(value), 3) + 0.0 if isinstance(value, int | float) else value


def same(ours: Sequence[Row], gold: Sequence[Row], seen: Callable[[Sequence[Row]], Any]) -> bool:
    """Whether the rows are the same under some order of the columns, as ``seen`` looks at them."""
    if not ours or not gold or len(ours[0]) != len(gold[0]):
        return not ours and not gold
    if seen(ours) == seen(gold):
        return True
    width = len(gold[0])
    mine, theirs = ([Counter(column).keys() for column in zip(*rows, strict=True)] for rows in (ours, gold))
    able = [[at for at in range(width) if mine[at] == theirs[other]] for other in range(width)]
    return width <= 6 and any(
        seen([tuple(row[at] for at in order) for row in ours]) == seen(gold)
        for order in permutations(range(width))
        if all(at in able[other] for other, at in enumerate(order))
    )


def judge(outcome: Outcome, ours: list[Row] | None, golds: Sequence[tuple[str, list[Row]]]) -> None:
    if ours is None:
        return
    for sql, gold in golds:
        outcome.multiset |= same(ours, gold, Counter)
        outcome.as_set |= same(ours, gold, frozenset)
        outcome.in_order |= same(ours, gold, list if _ordered(sql) else Counter)


def _ordered(sql: str) -> bool:
    tree = _parsed(sql)
    return tree is not None and tree.args.get("order") is not None


def single_table(sql: str) -> bool:
    """Whether a statement is about one table."""
    tree = _parsed(sql)
    return tree is not None and len({table.name.lower() for table in tree.find_all(exp.Table)}) == 1


def _parsed(sql: str) -> exp.Expr | None:
    try:
        return sqlglot.parse_one(sql, read="sqlite")
    except sqlglot.errors.SqlglotError:
        return None


def outcomes(questions: Sequence[Question]) -> Iterator[tuple[Outcome, Outcome]]:
    """Yield what came of each question whose gold runs: by the reader, and by the peer."""
    databases: dict[Path, Database] = {}
    for question in questions:
        database = databases.setdefault(question.database, Database(question.database))
        golds = [(sql, rows) for sql in question.gold if (rows := database.rows(sql)) is not None]
        if not golds:
            continue
        single = single_table(golds[0][0])
        ours, peer = Outcome(question, single), Outcome(question, single, answered=True)
        started = time.perf_counter()
        found = database.reader.read(question.text)
        ours.seconds = time.perf_counter() - started
        reading = best(found)
        if reading is not None:
            ours.answered, ours.confidence = isinstance(found, Reading), reading.confidence
            ours.sql, ours.features = reading.sql, dict(reading.features)
            judge(ours, database.rows(reading.sql), golds)
        peer.sql = database.peer.read(question.text)
        judge(peer, database.rows(peer.sql) if peer.sql else None, golds)
        yield ours, peer


def best(found: Reading | Unclear) -> Reading | None:
    if isinstance(found, Reading):
        return found
    return found.readings[0] if found.readings else None


def share(flags: Sequence[bool]) -> str:
    return f"{sum(flags) / len(flags):6.1%}" if flags else "     -"


def report(name: str, ours: Sequence[Outcome], peers: Sequence[Outcome]) -> None:
    print(f"\n## {name}: {len(ours)} questions")
    print("| what | n | right | as sets | in order | one-pass linker |")
    print("|---|---|---|---|---|---|")
    groups: dict[str, list[int]] = defaultdict(list)
    for at, outcome in enumerate(ours):
        groups["all"].append(at)
        groups["one table" if outcome.single else "several tables"].append(at)
        if outcome.question.category:
            groups[outcome.question.category].append(at)
    for group, members in groups.items():
        one = [ours[at] for at in members]
        print(
            f"| {group} | {len(one)} | {share([o.multiset for o in one])} | {share([o.as_set for o in one])} "
            f"| {share([o.in_order for o in one])} | {share([peers[at].multiset for at in members])} |"
        )
    ranked = sorted(ours, key=lambda outcome: -outcome.confidence)
    curve = [f"{c:.0%}: {share([o.multiset for o in ranked[: max(1, round(c * len(ranked)))]])}" for c in COVERAGES]
    print(f"precision at coverage   {'   '.join(curve)}")
    told = [o for o in ours if o.answered]
    answered, right = share([o.answered for o in ours]), share([o.multiset for o in told])
    print(f"answered without asking back {answered}, of these right {right}")
    times = sorted(outcome.seconds * 1e3 for outcome in ours)
    print(f"one question: median {statistics.median(times):.1f} ms, p95 {times[int(len(times) * 0.95)]:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, action="append")
    parser.add_argument("--questions", type=Path, action="append")
    parser.add_argument("--wrong", action="store_true", help="print what was read wrongly")
    parser.add_argument("--fit", action="store_true", help="fit the confidence, and print its weights")
    options = parser.parse_args()
    here = Path(__file__).parent.parent / "data" / "sql"
    files = options.questions or sorted((here / "questions").glob("*.json"))
    databases = options.database or [here / "chinook.sqlite"] * len(files)
    if len(databases) != len(files):
        parser.error("as many --database as --questions")
    everything: list[Outcome] = []
    for database, file in zip(databases, files, strict=True):
        pairs = list(outcomes(load(database, file)))
        ours, peers = [one for one, _ in pairs], [peer for _, peer in pairs]
        everything += ours
        report(file.stem, ours, peers)
        for outcome in ours if options.wrong else ():
            if not outcome.multiset:
                print(f"- {outcome.question.text}\n  gold {outcome.question.gold[0]}\n  read {outcome.sql}")
    if options.fit:
        fit_and_judge([(str(o.question.database), o.features, o.multiset) for o in everything])


if __name__ == "__main__":
    main()
