"""What a query still lacks when its question has been read."""

from __future__ import annotations

from sql_synthesizer.words import superlatives, totals
from sql_synthesizer.words.query import Ranking, Target
from sql_synthesizer.words.roots import says_table
from sql_synthesizer.words.state import State


def finish(state: State) -> None:
    """Settle what waits: limits without an order, groups without a number, targets that were only implied."""
    query = state.query
    if state.last is not None and not state.query.targets:
        state.target(Target(state.last))
    elif state.last is not None:
        state.doubts.append("left")
    _limit(state)
    _targets(state)
    _groups(state)
    if len(query.both) == 1:
        clause = query.both.pop()
        query.phrase.clauses.append([clause])
    state.doubts += ["left"] * (len(state.functions) + bool(state.counting) + state.negated)


def _limit(state: State) -> None:
    query = state.query
    if state.limit is None and state.top is None:
        return
    if query.phrase.ranking is not None:
        query.phrase.ranking.limit = state.limit or query.phrase.ranking.limit
    elif query.order:
        query.limit = state.limit
    else:
        numbers = state.shapes.numbers(query.phrase.table)
        aggregated = [target for target in query.targets if target.aggregated]
        if aggregated:
            query.order.append((aggregated[0], state.top is not False))
        elif len(numbers) != 1 and state.top is not None:
            totals.ask_by_what(state)
        elif numbers:
            query.phrase.ranking = Ranking(Target(numbers[0]), state.top is not False)
            query.phrase.ranking.limit = state.limit
        state.doubts.append("measure")
        query.limit = state.limit


def _targets(state: State) -> None:
    query = state.query
    if state.where:
        told = {condition.column for condition in state.told()}
        places = [ref for ref in state.shapes.with_words(query.phrase.table, state.where) if ref not in told]
        query.targets += [Target(ref) for ref in places[:1]]
    if query.targets:
        return
    if _counted_per(state):
        query.targets = [superlatives.count(query.phrase.table)]
        return
    if query.groups or query.group_tables:
        query.targets = [Target(ref) for ref in query.groups]
    if not query.targets:
        table = (query.group_tables or [query.phrase.table])[0]
        query.targets = [Target(ref) for ref in state.shapes.display(table)]
        query.distinct = query.distinct or state.distinct


def _counted_per(state: State) -> bool:
    """Whether rows are asked for "per" something, which is how many there are of them ("customers per country")."""
    query = state.query
    if not (query.groups or query.group_tables) or query.order or query.having or query.phrase.ranking is not None:
        return False
    pairs = zip(state.items, state.items[1:], strict=False)
    return any(says_table(item) == query.phrase.table and after.text.lower() == "per" for item, after in pairs)


def _groups(state: State) -> None:
    """Without a number for each group there is nothing to put together: show the columns themselves."""
    query = state.query
    _extremes(state)
    root = query.phrase.table
    if root in query.group_tables and all(target.home == root for target in query.targets if target.aggregated):
        query.group_tables.remove(root)
    measured = [*query.targets, *(target for target, _ in query.order), *(target for target, _, _ in query.having)]
    if query.phrase.ranking is not None:
        measured.append(query.phrase.ranking.target)
    if any(target.aggregated for target in measured):
        return
    if query.phrase.ranking is not None and (query.groups or query.group_tables):
        state.doubts.append("group")
    query.targets = [*(Target(ref) for ref in query.groups if Target(ref) not in query.targets), *query.targets]
    for table in query.group_tables:
        if table != query.phrase.table:
            shown = [Target(ref) for ref in state.shapes.display(table)]
            query.targets = [*(target for target in shown if target not in query.targets), *query.targets]
    query.groups, query.group_tables = [], []


def _extremes(state: State) -> None:
    """Read "for each department the age of the oldest physician": the extreme of each group, not of all."""
    query, ranking = state.query, state.query.phrase.ranking
    if ranking is None or ranking.limit != 1 or not (query.groups or query.group_tables):
        return
    if query.targets == [ranking.target] and not ranking.target.function:
        query.targets = [Target(ranking.target.column, "max" if ranking.descending else "min")]
        query.phrase.ranking = None
