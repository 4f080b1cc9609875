"""What an import says when it is interrupted, whichever instant that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.http_client import ClusterClient
from cluster.importing import BATCH_ROWS, Target, import_rows
from quantum_db.transfer.checkpoint import Checkpoint, Progress
from quantum_db.transfer.jsonl import JsonLinesSource, JsonLinesWriter

TARGET = Target("http://127.0.0.1:9", "here")


@pytest.mark.parametrize(("saves_first", "written"), [(True, BATCH_ROWS), (False, 0)])
def test_an_interrupted_import_tells_what_the_next_one_goes_on_after(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saves_first: bool,
    written: int,
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = JsonLinesWriter(path)
    for i in range(2 * BATCH_ROWS):
        rows.write({"id": f"r{i}", "vector": [1.0, 0.0]})
    rows.finish()
    save = Checkpoint.save

    def interrupted(self: Checkpoint, progress: Progress) -> None:
        if saves_first:
            save(self, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(ClusterClient, "write", lambda *_: {})
    monkeypatch.setattr(Checkpoint, "save", interrupted)
    source = JsonLinesSource(path)
    with pytest.raises(KeyboardInterrupt):
        import_rows(source, TARGET, tmp_path / "state", skip_refused=False)
    assert capsys.readouterr().out.endswith(f"{written:,} rows are written; the same command goes on after them\n")
    assert Checkpoint(tmp_path / "state", source.identity, TARGET.name).load().written == written
