"""Where processes that are to be killed are forked off: one server for all of them, which has imported what they run.

Its children have the environment that it had when it started: what they need is set in them.
"""

from __future__ import annotations

import multiprocessing
from typing import Final

FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.chaos.commit_process", "tests.chaos.job_process"])
