"""Cursors are good only where they came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.cursors import seal, unseal
from quantum_db.errors import InvalidRequest
from quantum_db.scope import Scope

HERE = Scope("tenant", "collection")
PLACES = st.text(max_size=512)


@given(PLACES)
def test_a_position_comes_back(position: str) -> None:
    assert unseal("vectors", HERE, seal("vectors", HERE, position)) == position


def test_no_cursor_begins_and_the_end_has_none() -> None:
    assert seal("vectors", HERE, None) is None
    assert unseal("vectors", HERE, None) is None
    assert unseal("vectors", HERE, "") is None


@pytest.mark.parametrize(
    ("listing", "scope"),
    [("groups", HERE), ("vectors", Scope("other", "collection")), ("vectors", Scope("tenant", "other"))],
)
def test_a_foreign_cursor_is_refused(listing: str, scope: Scope) -> None:
    with pytest.raises(InvalidRequest, match="is not the next of an earlier page"):
        unseal(listing, scope, seal("vectors", HERE, "place"))


@given(st.text(min_size=1, max_size=512))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the next of an earlier page"):
        unseal("vectors", HERE, text)
