"""A journal whose records are encrypted in another one. Numbers, epochs and times of writing are not hidden.

A record is stored as ``{"$sealed": [key id, text]}``, bound to its stream. Records that were written before there was a
key are read as they are, until a compaction has replaced them; so encryption can be switched on, and keys be changed,
for a journal with content.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from quantum_db.encryption import Keyring, changed
from quantum_db.errors import Unavailable
from quantum_db.journals.records import encode
from quantum_db.ports import Journal

SEALED: Final = "$sealed"
Json = dict[str, Any]


class EncryptedJournal:
    """Implements ``Journal`` over another one. Without keys it writes plain records, and says what it cannot read."""

    def __init__(self, inner: Journal, keyring: Keyring) -> None:
        """Own a journal; ``close`` closes it."""
        self.inner = inner
        self._keyring = keyring
        self._unclear: dict[str, tuple[list[str], list[Json]]] = {}

    def __repr__(self) -> str:
        return f"EncryptedJournal({self.inner!r})"

    def begin_epoch(self, stream: str) -> int:
        """See ``Journal.begin_epoch``."""
        return self.inner.begin_epoch(stream)

    def append(self, stream: str, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> int:
        """See ``Journal.append``.

        The same records after one that raised Unavailable are the same to the journal below, too.
        """
        texts = [encode(record) for record in records]
        before, sealed = self._unclear.pop(stream, ([], []))
        if before != texts:
            sealed = self._sealed(stream, texts)
        try:
            return self.inner.append(stream, sealed, epoch=epoch)
        except Unavailable:
            self._unclear[stream] = (texts, sealed)
            raise

    def read(self, stream: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """See ``Journal.read``. Raises InvalidSettings where a key is missing."""
        for number, record in self.inner.read(stream, after):
            yield number, self._opened(stream, number, record)

    def last(self, stream: str) -> int:
        """See ``Journal.last``."""
        return self.inner.last(stream)

    def compact(
        self, stream: str, through: int, records: Sequence[Mapping[str, Any]], *, epoch: int | None = None
    ) -> None:
        """See ``Journal.compact``."""
        sealed = self._sealed(stream, [encode(record) for record in records])
        self.inner.compact(stream, through, sealed, epoch=epoch)

    def close(self) -> None:
        """See ``Journal.close``."""
        self.inner.close()

    def _sealed(self, stream: str, texts: Sequence[str]) -> list[Json]:
        if self._keyring.newest is None:
            return [json.loads(text) for text in texts]
        found = []
        for text in texts:
            key_id, sealed = self._keyring.seal(text.encode(), stream.encode())
            found.append({SEALED: [key_id, base64.b64encode(sealed).decode()]})
        return found

    def _opened(self, stream: str, number: int, record: Json) -> Json:
        if SEALED not in record:
            return record
        place = f"record {number} of stream {stream!r}"
        try:
            key_id, text = record[SEALED]
            sealed = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise changed("?", place) from None
        found: Json = json.loads(self._keyring.open(str(key_id), sealed, stream.encode(), place))
        return found
