"""Where the shards of states and groups keep their journals; a changed number of shards is made true here."""

from __future__ import annotations

from pathlib import Path

from actors.state_manager import ShardSettings
from cluster.settings import Settings
from quantum_db.group_store import GroupShard, split_groups
from quantum_db.jobs.ledger import DAY_S
from quantum_db.journals.layout import Kind, Places, ShardPlace, settle
from quantum_db.sessions import SessionLimits
from quantum_db.state_store import StateShard, split_shard
from quantum_db.states.history import Retention


def state_shards(settings: Settings) -> list[ShardSettings]:
    """Return what each state manager is made with. None of them runs yet.

    Raises:
        CorruptData, Unavailable: a journal cannot be read, or does not answer; nothing is lost.
    """
    states, sessions = settings.states, settings.sessions
    retention = Retention(states.history_per_entity, states.history_days * DAY_S, states.history_instances)
    limits = SessionLimits(sessions.sessions, sessions.moves, sessions.moves_per_session, sessions.idle_s)
    places = Places("states", _folder(settings), states.journal_url)
    kind = Kind(lambda: StateShard(states.capacity, retention, limits), split_shard)
    layout = settle(places, states.shards, kind)
    return [
        ShardSettings(places.shard(layout, shard), states.capacity, retention, limits) for shard in range(states.shards)
    ]


def group_shards(settings: Settings) -> list[ShardPlace]:
    """Return where each shard of the groups is. Raises what ``state_shards`` raises."""
    places = Places("groups", _folder(settings), settings.groups.journal_url)
    layout = settle(places, settings.groups.shards, Kind(GroupShard, split_groups))
    return [places.shard(layout, shard) for shard in range(settings.groups.shards)]


def _folder(settings: Settings) -> Path:
    return settings.data_dir.resolve()
