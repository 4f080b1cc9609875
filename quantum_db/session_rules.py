"""What a session does to a query and a query to its session. Without a session nothing is asked of anybody.

- Before scoring, the session's moves take effect on the weights of the candidates.
- A query in one context measures: where its circuits ran, or with ``observe``, its top hit is found in that context;
  from then on the session sees the weights of that hit's partners moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from quantum_db.entanglement_rules import partners
from quantum_db.model import Candidates, Hit, Query
from quantum_db.ports import Groups, Sessions, VectorReader
from quantum_db.sessions import Observation, SessionKey


class SessionRules:
    """Applies sessions to queries."""

    def __init__(self, sessions: Sessions, groups: Groups, store: VectorReader, new_key: Callable[[], str]) -> None:
        """Join the parts. ``new_key`` names measurements."""
        self._sessions = sessions
        self._groups = groups
        self._store = store
        self._new_key = new_key

    async def seen(self, query: Query, candidates: Candidates) -> Candidates:
        """Return the candidates with the weights that the query's session sees. Raises Unavailable."""
        if query.session_id is None or not candidates.entity_ids:
            return candidates
        without_vectors = replace(candidates, metadata=(), vectors=np.empty((0, 0), dtype=np.float32))
        weights = await self._sessions.weights(SessionKey(query.tenant, query.session_id), without_vectors)
        return replace(candidates, weights=weights)

    async def note(self, query: Query, hits: Sequence[Hit], *, ran: bool) -> None:
        """Let the query's session observe the top hit, if the query measures. Raises Unavailable."""
        if query.session_id is None or len(query.contexts) != 1 or not hits or not (ran or query.observe):
            return
        top, context = hits[0].id, query.contexts[0][0]
        groups = await self._groups.of_member(top)
        names = list(partners(top, groups))
        found = await self._store.fetch(names) if names else []
        contexts = {one.id: [context.name for context in one.contexts] for one in found if one is not None}
        key = SessionKey(query.tenant, query.session_id)
        await self._sessions.observe(key, Observation(self._new_key(), top, context), groups, contexts)
