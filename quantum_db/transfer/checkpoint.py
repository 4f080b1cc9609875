"""How far an import has come, in a small file that is replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from quantum_db.errors import Conflict, CorruptData, Unavailable
from quantum_db.transfer.formats import Position

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows whose writing was acknowledged, or that were refused and skipped.

    Attributes:
        position: of the last of them; None before the first.
    """

    position: Position | None = None
    written: int = 0
    refused: int = 0


class Checkpoint:
    """The progress of one source into one cluster."""

    def __init__(self, path: Path, source: Mapping[str, Any], target: str) -> None:
        """Name the file, which need not be there.

        Args:
            path: of the file.
            source: ``RowSource.identity``.
            target: the cluster.
        """
        self._path = path
        self._about = {"format": _FORMAT, "source": dict(source), "target": target}

    def load(self) -> Progress:
        """Return the progress made before.

        Raises:
            Conflict: it is that of another source or cluster, or the source has changed since.
            CorruptData: the file is none of ours.
            Unavailable: it cannot be read.
        """
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            progress = Progress(**content.pop("progress"))
        except FileNotFoundError:
            return Progress()
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptData(f"{self._path} is not the state of an import; delete it to begin anew") from error
        if content != self._about:
            raise Conflict(
                f"{self._path} is the state of an import from another source, into another cluster, or from this "
                "source before it changed; delete it to begin anew"
            )
        return progress

    def save(self, progress: Progress) -> None:
        """Replace the file; on disk when it returns. Raises Unavailable."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({**self._about, "progress": asdict(progress)}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error

    def clear(self) -> None:
        """Delete the file: the import is done. Idempotent."""
        self._path.unlink(missing_ok=True)
