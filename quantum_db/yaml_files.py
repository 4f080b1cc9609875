"""Settings from a YAML file: what is wrong with the file itself is told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from quantum_db.errors import InvalidSettings


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a file. Raises InvalidSettings when it cannot be read, or holds something else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidSettings(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidSettings(f"{path} must hold keys and values at its top level")
    return content
