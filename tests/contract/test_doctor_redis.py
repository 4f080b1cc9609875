"""What the doctor says of a real Redis: one that a journal can stand on, one that it cannot, and a wrong password."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.doctor import FAILED, OK, examine
from cluster.settings import CacheSettings, HttpSettings, JobSettings, RaySettings, Settings
from tests.redis_server import running_redis

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.mark.parametrize(
    ("options", "state", "told"), [(DURABLE, OK, "answers"), ((), FAILED, "set appendonly yes, appendfsync always")]
)
def test_a_journal_needs_a_redis_that_keeps(options: tuple[str, ...], state: str, told: str, tmp_path: Path) -> None:
    with running_redis(*options, folder=tmp_path) as redis:
        urls = (redis.url, redis.url.replace(redis.password, "guessed"))
        right, wrong = (
            {
                one.name: one
                for one in examine(
                    Settings(
                        data_dir=tmp_path / "data",
                        http=HttpSettings(port=0),
                        jobs=JobSettings(journal_url=url),
                        ray=RaySettings(redis_url=url),
                        cache=CacheSettings(redis_url=url),
                    )
                )
            }
            for url in urls
        )
        assert right["jobs.journal_url"].state == state
        assert told in right["jobs.journal_url"].what
        assert right["ray.redis_url"].state == OK, "Ray's head keeps nothing there that outlives it"
        assert right["cache.redis_url"].state == OK, "and kept answers may be lost"
        assert wrong["cache.redis_url"].state == FAILED
        assert wrong["jobs.journal_url"].state == FAILED
        assert "refuses this user or password" in wrong["ray.redis_url"].what
        assert redis.password not in str(right)
