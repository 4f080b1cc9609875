"""The command line ``query-agent``: a question in words, or SQL, to one database.

Exit codes: 0 done, 2 something that was given is wrong, 3 the database did not answer in time, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from quantum_db.errors import InvalidRequest, InvalidSettings, QuantumDBError
from quantum_db.programs import run_program
from sql_synthesizer.agent import QueryAgent
from sql_synthesizer.config import SqlSettings, load
from sql_synthesizer.logs import log, set_up_logs
from sql_synthesizer.printing import print_result, print_table, print_tables, write_csv

if TYPE_CHECKING:
    from sql_synthesizer.quantum.session import QuantumSession

PROGRAM: Final = "query-agent"
PROMPT: Final = "sql> "
LEAVE: Final = frozenset({"exit", "quit", "\\q"})


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with each question."""

    only_sql: bool
    show_sql: bool
    explain: bool
    csv: Path | None
    session: QuantumSession | None


def ask(
    question: Annotated[str | None, typer.Argument(help="in words, or SQL")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="duckdb:///path, sqlite:///path or postgresql://user:password@host/database")
    ] = None,
    execute_sql: Annotated[str | None, typer.Option(metavar="SQL", help="run this, whatever it begins with")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="show how the database runs it, and do not run it")
    ] = False,
    sql_only: Annotated[bool, typer.Option("--sql-only", help="show the checked SQL, and do not run it")] = False,
    list_tables: Annotated[bool, typer.Option("--list-tables", help="show the tables")] = False,
    describe_table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="show columns and keys of a table")
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="at most so many rows")] = None,
    output_csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write the rows as CSV; - is here")] = None,
    interactive: Annotated[bool, typer.Option("--interactive", help="read one question a line, until the end")] = False,
    config: Annotated[Path | None, typer.Option(help="a YAML file of settings; else quantum_config.yaml")] = None,
    env: Annotated[str | None, typer.Option(help="which environment of the settings file")] = None,
    schema_cache_ttl: Annotated[float | None, typer.Option(help="seconds until the schema is looked at anew")] = None,
    enable_quantum: Annotated[
        bool | None, typer.Option("--enable-quantum/--no-quantum", help="choose join orders, and keep answers")
    ] = None,
    quantum_mode: Annotated[str | None, typer.Option(help="conservative, balanced, aggressive or adaptive")] = None,
    quantum_qubits: Annotated[int | None, typer.Option(help="of a circuit at most")] = None,
    quantum_temp: Annotated[float | None, typer.Option(help="where annealing begins, in 1/1000 of the spread")] = None,
    quantum_cooling_rate: Annotated[float | None, typer.Option(help="by which it cools in each sweep")] = None,
    quantum_min_temp: Annotated[
        float | None, typer.Option(help="where annealing ends, in 1/1000 of the spread")
    ] = None,
    quantum_timeout: Annotated[float | None, typer.Option(help="seconds after which no chain is begun")] = None,
    quantum_stats: Annotated[bool, typer.Option("--quantum-stats", help="tell what optimising did")] = False,
    cache_ttl: Annotated[float | None, typer.Option(help="seconds that an answer is kept")] = None,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="forget what is kept, before anything else")
    ] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json")] = None,
) -> None:
    """Ask a database a question in words, or in SQL that only reads."""
    flags: dict[str, Any] = {
        "database_url": database_url,
        "max_rows": max_rows,
        "schema_cache_ttl": schema_cache_ttl,
        "enable_quantum": enable_quantum,
        "quantum_mode": quantum_mode,
        "quantum_qubits": quantum_qubits,
        "quantum_temp": quantum_temp,
        "quantum_cooling_rate": quantum_cooling_rate,
        "quantum_min_temp": quantum_min_temp,
        "quantum_timeout": quantum_timeout,
        "cache_ttl": cache_ttl,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = load(flags, config, env)
    set_up_logs(settings.agent.log_level, settings.agent.log_format)
    if (question is not None) + (execute_sql is not None) + interactive + list_tables + (
        describe_table is not None
    ) != 1:
        raise InvalidRequest("give one of a question, --execute-sql, --interactive, --list-tables and --describe-table")
    agent = opened(settings)
    answers = not (list_tables or describe_table is not None or sql_only or explain)
    session = session_of(agent, settings) if (settings.enabled and answers) or quantum_stats or clear_cache else None
    try:
        if session is not None and clear_cache:
            session.clear_cache()
        if list_tables:
            print_tables(agent.engine.schema())
        elif describe_table is not None:
            print_table(agent.engine.schema(), describe_table)
        elif interactive:
            converse(agent, Task(False, sql_only, explain, output_csv, session))
        else:
            text = execute_sql if execute_sql is not None else question
            answer(agent, text or "", Task(execute_sql is not None, sql_only, explain, output_csv, session))
        if session is not None and quantum_stats:
            print(orjson.dumps(session.stats(), option=orjson.OPT_INDENT_2).decode(), file=sys.stderr)
    finally:
        if session is not None:
            session.close()
        agent.close()


def opened(settings: SqlSettings) -> QueryAgent:
    """Return the agent that the settings describe. Raises InvalidSettings without a database."""
    if settings.agent.database_url is None:
        raise InvalidSettings("no database is named: give --database-url or QUERY_AGENT_DATABASE_URL")
    return QueryAgent(
        settings.agent.database_url,
        limits=settings.agent.limits(),
        reflection=settings.agent.reflection(),
        pool_size=settings.performance.pool_size,
    )


def session_of(agent: QueryAgent, settings: SqlSettings) -> QuantumSession:
    """Return what optimises and keeps answers. Raises InvalidSettings where a file cannot be written."""
    from sql_synthesizer.quantum.session import QuantumSession  # it takes a second to import, and few commands need it

    return QuantumSession(agent, settings)


def answer(agent: QueryAgent, text: str, task: Task) -> None:
    """Do with one question what is asked for. Raises QuantumDBError."""
    if task.show_sql or task.explain:
        reading = agent.read(text, only_sql=task.only_sql)
        print(reading.sql)
        if task.explain:
            print(agent.engine.explain(reading.statement.sql, reading.statement.parameters, agent.limits).text)
        return
    result = (task.session or agent).answer(text, only_sql=task.only_sql)
    for finding in result.findings:
        log(logging.INFO, "the text looks suspicious", finding=finding.name, threat=finding.threat.value)
    log(logging.INFO, "statement", sql=result.sql, rows=len(result.rows), total_ms=round(result.timings.total_ms, 3))
    if task.csv is not None:
        write_csv(result, task.csv)
    else:
        print_result(result)


def converse(agent: QueryAgent, task: Task) -> None:
    """Answer each line of standard input; what is wrong with one does not end it."""
    while True:
        try:
            line = input(PROMPT if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line.lower() in LEAVE:
            return
        if line:
            try:
                answer(agent, line, task)
            except QuantumDBError as error:
                print(f"error: {error.detail}", file=sys.stderr)


def program() -> typer.Typer:
    """Return the program."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=True)
    app.command(help=ask.__doc__)(ask)
    return app


def main() -> int:
    """Run the command; return the exit code."""
    return run_program(program(), PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
