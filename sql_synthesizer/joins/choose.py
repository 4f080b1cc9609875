"""Which search orders a graph: the plain one while that is enough, else the compiled one once it is ready."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Final, Protocol

from sql_synthesizer.joins.graph import JoinGraph, JoinOrder
from sql_synthesizer.joins.small import order_small


class OrderChooser(Protocol):
    """What finds a join order, as ``choose_order`` does."""

    def __call__(self, graph: JoinGraph, *, chain: bool, seconds: float) -> JoinOrder | None:
        """Return the best order found in about ``seconds``, left-deep with ``chain``; None if it cannot search yet."""


_ready: Final = threading.Event()
_lock: Final = threading.Lock()
_warming: list[threading.Thread] = []


def warm_up() -> threading.Thread:
    """Begin to compile the search for large graphs, once in a process, in a thread of its own; return the thread."""
    with _lock:
        if not _warming:
            _warming.append(threading.Thread(target=_warm, name="join-kernels", daemon=True))
            _warming[0].start()
        return _warming[0]


def choose_order(graph: JoinGraph, *, chain: bool, seconds: float) -> JoinOrder | None:
    """Return the best join order that is found in time, left-deep with ``chain``.

    None if the graph is too large for the plain search and the compiled one is not ready: then that begins to be
    compiled, and the caller goes on without.
    """
    plain = graph.without_classes()
    for one in (graph, plain) if graph.classes else (graph,):
        small = order_small(one, chain=chain)
        if small is not None:
            return replace(small, proved=small.proved and one is graph)
    if not _ready.is_set():
        warm_up()
        return None
    from sql_synthesizer.joins import search  # numba takes a second to import, and most graphs are small

    return search.order_chain(plain, seconds=seconds) if chain else search.order_joins(plain, seconds=seconds)


def _warm() -> None:
    from sql_synthesizer.joins import search  # see above

    search.warm_up()
    _ready.set()
