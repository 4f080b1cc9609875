from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.world import Grants, World


@pytest.fixture
def grants() -> Grants:
    return Grants()


@pytest.fixture
async def world(tmp_path: Path, grants: Grants) -> AsyncIterator[World]:
    world = await World(tmp_path, grants).open()
    yield world
    await world.close()
