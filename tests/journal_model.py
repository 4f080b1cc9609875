"""The meaning of a journal as a state machine for hypothesis: whatever is done to it, it answers as a list would."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quantum_db.errors import CorruptData, Fenced
from quantum_db.ports import Journal

Record = dict[str, Any]

streams = st.sampled_from(["one", "two"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
records = st.lists(st.dictionaries(texts, values, max_size=3), max_size=4)
epochs = st.sampled_from([None, 0, 0, 0, -1, 1])
"""None, or how far from the newest."""


@dataclass
class Model:
    """One stream. ``tail[i]`` has number ``through + 1 + i``."""

    epoch: int = 0
    through: int = 0
    snapshot: list[Record] = field(default_factory=list)
    tail: list[Record] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.through + len(self.tail)

    def read(self, after: int) -> list[tuple[int, Record]]:
        snapshot = [(self.through, record) for record in self.snapshot] if after < self.through else []
        numbered = list(enumerate(self.tail, self.through + 1))
        return snapshot + [(number, record) for number, record in numbered if number > after]


class JournalMachine(RuleBasedStateMachine):
    """Two streams of one journal, which is opened twice and may be opened anew."""

    def open(self) -> Journal:
        """Open the same journal, new for each machine."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.journals = [self.open(), self.open()]
        self.models = {"one": Model(), "two": Model()}

    def teardown(self) -> None:
        for journal in getattr(self, "journals", []):
            journal.close()

    @rule(which=st.integers(0, 1), stream=streams, new=records, epoch=epochs)
    def append(self, which: int, stream: str, new: list[Record], epoch: int | None) -> None:
        model = self.models[stream]
        absolute = None if epoch is None else model.epoch + epoch
        if epoch:
            with pytest.raises(Fenced):
                self.journals[which].append(stream, new, epoch=absolute)
            return
        model.tail += new
        assert self.journals[which].append(stream, new, epoch=absolute) == model.last

    @rule(which=st.integers(0, 1), stream=streams)
    def begin_epoch(self, which: int, stream: str) -> None:
        self.models[stream].epoch += 1
        assert self.journals[which].begin_epoch(stream) == self.models[stream].epoch

    @rule(which=st.integers(0, 1), stream=streams, new=records, back=st.integers(-1, 8), epoch=epochs)
    def compact(self, which: int, stream: str, new: list[Record], back: int, epoch: int | None) -> None:
        model = self.models[stream]
        through = model.last - back
        absolute = None if epoch is None else model.epoch + epoch
        if epoch:
            with pytest.raises(Fenced):
                self.journals[which].compact(stream, through, new, epoch=absolute)
            return
        if not max(model.through, 1 if new else 0) <= through <= model.last:
            with pytest.raises(ValueError, match="cannot be compacted"):
                self.journals[which].compact(stream, through, new, epoch=absolute)
            return
        self.journals[which].compact(stream, through, new, epoch=absolute)
        model.tail = model.tail[through - model.through :]
        model.through, model.snapshot = through, new

    @rule(which=st.integers(0, 1), stream=streams, back=st.integers(-1, 8))
    def read(self, which: int, stream: str, back: int) -> None:
        model = self.models[stream]
        after = max(0, model.last - back)
        if after > model.last:
            with pytest.raises(CorruptData):
                list(self.journals[which].read(stream, after))
        else:
            assert list(self.journals[which].read(stream, after)) == model.read(after)

    @rule(which=st.integers(0, 1))
    def open_again(self, which: int) -> None:
        self.journals[which].close()
        self.journals[which] = self.open()

    @invariant()
    def holds_what_a_list_would(self) -> None:
        for stream, model in getattr(self, "models", {}).items():
            for journal in self.journals:
                assert journal.last(stream) == model.last
                assert list(journal.read(stream)) == model.read(0)
