"""Opens the journal that a URL names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qsl, urlencode

from quantum_db.encryption import data_keys
from quantum_db.errors import InvalidSettings
from quantum_db.journals.encrypted import EncryptedJournal
from quantum_db.journals.redis import RedisJournal
from quantum_db.journals.redis_client import Durability
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.ports import Journal

_SQLITE: Final = "sqlite:///"


def open_journal(url: str) -> Journal:
    """Open or make a journal; its records are encrypted where the environment has keys, see ``quantum_db.encryption``.

    Args:
        url: ``sqlite:///data/journal.sqlite`` (relative), ``sqlite:////var/lib/journal.sqlite`` (absolute), or
            ``redis://`` and ``rediss://`` with redis-py's options and two more, ``name`` and ``durability``, which are
            those of ``RedisJournal``: ``rediss://:password@host:6379/0?name=qqc&durability=trusted``.

    Raises:
        InvalidSettings: the URL is of another kind, what it names cannot be used as a journal, or a key is none.
        CorruptData, Unavailable: as the journal's constructor.
    """
    return EncryptedJournal(_opened(url), data_keys(os.environ))


def _opened(url: str) -> Journal:
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteJournal(Path(url.removeprefix(_SQLITE)))
    if not url.startswith(("redis://", "rediss://")):
        raise InvalidSettings(
            "the URL of a journal begins with sqlite:/// and a path, or with redis:// or rediss:// and a host"
        )
    server, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    name = options.pop("name", "qqc")
    durability = cast(Durability, options.pop("durability", "checked"))
    return RedisJournal(f"{server}?{urlencode(options)}", name=name, durability=durability)
