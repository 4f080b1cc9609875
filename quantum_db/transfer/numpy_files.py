"""Entities from NumPy files: a matrix with one vector a row, with ids and metadata where they are given.

    vectors.npy                              (N, d) numbers; it is not loaded, but mapped into memory
    vectors.npz                              "vectors", and maybe "ids" (N,) and "metadata" (N,) texts of JSON objects;
                                             it is loaded whole
    ids.npy or ids.json (beside a .npy)      (N,) strings or integers; a JSON list of them

Without ids a row's id is its number, from 0. Nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import CorruptData, InvalidRequest, Unavailable
from quantum_db.transfer.formats import Position, Row, file_identity, parse_metadata

SUFFIXES: Final = (".npy", ".npz")
_KNOWN: Final = ("vectors", "ids", "metadata")


class NumpySource:
    """Implements ``RowSource``."""

    def __init__(self, path: Path, ids: Path | None = None) -> None:
        """Open the files.

        Args:
            path: ends in .npy or .npz.
            ids: a file of ids for a .npy.

        Raises:
            CorruptData: a file is cut, damaged, or holds pickles.
            InvalidRequest: what it holds are no vectors, or ids or metadata do not go with them.
            Unavailable: a file cannot be read.
        """
        self._path = path
        found = _loaded(path)
        if isinstance(found, dict):
            if ids is not None:
                raise InvalidRequest(
                    f"{path}: an .npz has its ids inside, as the array 'ids'; leave the file of ids out"
                )
            if "vectors" not in found or not found.keys() <= set(_KNOWN):
                raise InvalidRequest(f"{path} must hold the arrays {', '.join(_KNOWN)}, not {', '.join(found)}")
        arrays = found if isinstance(found, dict) else {"vectors": found}
        self._vectors = arrays["vectors"]
        if self._vectors.ndim != 2 or self._vectors.dtype.kind not in "iuf":
            raise InvalidRequest(
                f"{path}: vectors must be a matrix of numbers with one row each, "
                f"not {self._vectors.dtype} of shape {self._vectors.shape}"
            )
        self.total: int | None = len(self._vectors)
        self._ids = _texts(path, "ids", arrays.get("ids"), self.total) if ids is None else _ids(ids, self.total)
        self._metadata = _texts(path, "metadata", arrays.get("metadata"), self.total)
        self.identity = file_identity(path, *([ids] if ids is not None else []))

    def rows(self, after: Position | None) -> Iterator[tuple[Position, Row]]:
        """See ``RowSource.rows``."""
        for place in range(int(after or 0), len(self._vectors)):
            row: Row = {
                "id": str(place) if self._ids is None else self._ids[place],
                "vector": np.array(self._vectors[place], dtype=np.float64),
            }
            if self._metadata is not None:
                row["metadata"] = parse_metadata(self._metadata[place], f"{self._path}, metadata[{place}]")
            yield place + 1, row


def _loaded(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        if path.suffix.lower() == ".npy":
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, TypeError) as error:
        raise CorruptData(f"{path} is damaged, cut, or no NumPy file without pickles: {error}") from error


def _ids(path: Path, count: int) -> list[str]:
    if path.suffix.lower() == ".npy":
        found = _loaded(path)
        assert not isinstance(found, dict)
    else:
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CorruptData(f"{path} is not JSON: {error}") from error
        if not isinstance(given, list) or not all(type(item) in (str, int) for item in given):
            raise InvalidRequest(f"{path} must be a JSON list of strings or integers")
        found = np.asarray([str(item) for item in given])
    texts = _texts(path, "ids", found, count)
    assert texts is not None
    return texts


def _texts(path: Path, name: str, array: NDArray[Any] | None, count: int) -> list[str] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in ("U" if name == "metadata" else "Uiu"):
        raise InvalidRequest(
            f"{path}: {name} must be a flat array of strings, not {array.dtype} of shape {array.shape}"
        )
    if len(array) != count:
        raise InvalidRequest(f"{path}: there are {len(array)} {name} for {count} vectors; there must be one for each")
    return [str(item) for item in array.tolist()]
