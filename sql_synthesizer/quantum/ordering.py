"""Join orders where no proof is at hand: the search of `sql_synthesizer.joins`, and annealed prefixes beside it."""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from sql_synthesizer.joins.choose import choose_order
from sql_synthesizer.joins.graph import JoinGraph, JoinOrder, left_deep, log_c_out
from sql_synthesizer.quantum.prefix_qubo import MAX_RELATIONS, anneal_prefixes
from sql_synthesizer.quantum.schedules import annealing_schedule
from sql_synthesizer.quantum.selection import Schedule, warm_up

FOUND_BY: Final = "prefix annealing"

_ready: Final = threading.Event()
_lock: Final = threading.Lock()
_warming: list[threading.Thread] = []


def begin_warm_up() -> threading.Thread:
    """Begin to compile all annealers, once in a process, in a thread of its own; return the thread."""
    with _lock:
        if not _warming:
            _warming.append(threading.Thread(target=_warm, name="annealing-kernels", daemon=True))
            _warming[0].start()
        return _warming[0]


def is_warm() -> bool:
    """Return whether all annealers are compiled."""
    return _ready.is_set()


class AnnealedOrders:
    """Implements ``OrderChooser``: the better of the search and of annealed prefixes, where the search proves nothing.

    Until the annealers are compiled the search decides alone.
    """

    def __init__(self, schedule: Schedule, timeout_s: float, rng: np.random.Generator) -> None:
        """Take how long and how hot prefixes are annealed."""
        self.schedule = schedule
        self._timeout_s = timeout_s
        self._rng = rng
        self._lock = threading.Lock()
        self.annealed = 0
        self.better = 0

    def __call__(self, graph: JoinGraph, *, chain: bool, seconds: float) -> JoinOrder | None:
        """See ``OrderChooser``."""
        order = choose_order(graph, chain=chain, seconds=seconds)
        if (order is not None and order.proved) or not 3 <= graph.size <= MAX_RELATIONS:
            return order
        if not _ready.is_set():
            begin_warm_up()
            return order
        with self._lock:
            (rng,) = self._rng.spawn(1)
            self.annealed += 1
        found = anneal_prefixes(graph.without_classes(), rng, self.schedule, self._timeout_s)
        tree = left_deep(found.order)
        log_cost = log_c_out(graph, tree)
        if order is not None and log_c_out(graph, order.tree) <= log_cost + 1e-9:
            return order
        with self._lock:
            self.better += 1
        return JoinOrder(tree, log_cost, False, FOUND_BY, found.seconds)


def _warm() -> None:
    warm_up()
    selectivity = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, -2.0], [0.0, -2.0, 0.0]])
    graph = JoinGraph(("a", "b", "c"), np.array([3.0, 2.0, 1.0]), selectivity)
    for quantum in (False, True):
        schedule = annealing_schedule(1.0, 0.5, 0.5, "conservative", quantum=quantum)
        anneal_prefixes(graph, np.random.default_rng(0), schedule)
    _ready.set()
