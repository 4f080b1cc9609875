"""Circuits as JSON and back, and their digests."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import CX, CircuitBatch, H, MultiplexedRY, Rotation, Step, Template, content_key
from quantum_db.errors import CorruptData
from quantum_db.jobs.parts import _checksum, circuit_digests, parts_from_json, parts_to_json


@st.composite
def batches(draw: st.DrawFn) -> CircuitBatch:
    qubits = draw(st.integers(1, 5))
    steps: list[Step] = []
    angles = 0
    for _ in range(draw(st.integers(0, 8))):
        order = draw(st.permutations(range(qubits)))
        kind = draw(st.sampled_from(["ry", "rx", "rz", "h"] + (["rzz", "cx"] if qubits > 1 else [])))
        if kind == "h":
            steps.append(H(order[0]))
        elif kind == "cx":
            steps.append(CX(order[0], order[1]))
        elif kind == "ry":
            steps.append(MultiplexedRY(order[0], tuple(order[1 : 1 + draw(st.integers(0, qubits - 1))]), angles))
            angles += steps[-1].angle_count
        else:
            steps.append(Rotation(kind, tuple(order[: 2 if kind == "rzz" else 1]), angles))
            angles += 1
    template = Template(content_key(qubits, tuple(steps)), qubits, tuple(steps))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return CircuitBatch(template, draw(arrays(np.float64, (draw(st.integers(1, 4)), angles), elements=finite)))


def through_json(parts: tuple[CircuitBatch, ...]) -> tuple[CircuitBatch, ...]:
    return parts_from_json(json.loads(json.dumps(parts_to_json(parts))))


@settings(deadline=None)
@given(st.lists(batches(), max_size=4).map(tuple))
def test_what_is_read_is_what_was_written(parts: tuple[CircuitBatch, ...]) -> None:
    found = through_json(parts)
    assert [part.template for part in found] == [part.template for part in parts]
    assert [part.angles.tobytes() for part in found] == [part.angles.tobytes() for part in parts]
    assert [part.angles.shape for part in found] == [part.angles.shape for part in parts]
    assert all(part.angles.dtype == np.float64 and part.angles.flags.writeable for part in found)
    assert [circuit_digests(part) for part in found] == [circuit_digests(part) for part in parts]


def batch(rows: int = 3, seed: int = 0) -> CircuitBatch:
    template = overlap_template(2)
    return CircuitBatch(template, np.random.default_rng(seed).normal(size=(rows, template.angle_count)))


def test_angles_in_any_memory_order_are_read_alike() -> None:
    plain = batch()
    turned = CircuitBatch(plain.template, np.asfortranarray(plain.angles))
    assert through_json((turned,))[0].angles.tobytes() == plain.angles.tobytes()
    assert circuit_digests(turned) == circuit_digests(plain)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every leaf."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in places(inner, (*path, key))]
    if isinstance(value, list):
        return [found for key, inner in enumerate(value) for found in places(inner, (*path, key))]
    return [path]


WRITTEN = parts_to_json((batch(), batch(1, 2)))


@pytest.mark.parametrize("path", places(WRITTEN), ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_any_change_is_damage(path: tuple[Any, ...], signed: bool) -> None:
    """Also where somebody wrote the checksum anew, what is not a circuit is told as damage and not as a crash."""
    damaged = copy.deepcopy(WRITTEN)
    *above, last = path
    place = damaged
    for key in above:
        place = place[key]
    place[last] = -7 if isinstance(place[last], int) else place[last][:-2] + "!!"
    if signed and path[0] == "parts":
        damaged["checksum"] = _checksum(damaged["parts"])
    with pytest.raises(CorruptData):
        parts_from_json(damaged)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {"version": 2, "parts": [], "checksum": _checksum([])},
        {"version": 1, "checksum": _checksum([])},
        {"version": 1, "parts": {"a": 1}, "checksum": _checksum([])},
        *(
            {"version": 1, "parts": parts, "checksum": _checksum(parts)}
            for parts in (
                7,
                [7],
                [{}],
                [{"qubits": 1, "steps": [["h", 0]], "rows": -1, "angles": ""}],
                [{"qubits": 1, "steps": [["h", 0]], "rows": True, "angles": ""}],
                [{"qubits": 1, "steps": [["h", 0.0]], "rows": 1, "angles": ""}],
                [{"qubits": 1, "steps": [["h", 0, 0]], "rows": 1, "angles": ""}],
                [{"qubits": 1, "steps": [["ry"]], "rows": 1, "angles": ""}],
                [{"qubits": 1, "steps": [[]], "rows": 1, "angles": ""}],
                [{"qubits": 1, "steps": [["u", 0, 0]], "rows": 1, "angles": "AAAAAAAAAAA="}],
                [{"qubits": 1, "steps": [["rx", 0, 0]], "rows": 1, "angles": "AAAAAAAA+H8="}],  # not a number
                [{"qubits": 1, "steps": [["rx", 0, 0]], "rows": 1, "angles": "AAAA"}],
                [{"qubits": 1, "steps": [["rx", 0, 0]], "rows": 1, "angles": None}],
            )
        ),
    ],
    ids=str,
)
def test_what_was_never_written_is_damage(damaged: object) -> None:
    with pytest.raises(CorruptData):
        parts_from_json(damaged)


def test_digests_tell_circuits_apart_and_nothing_else() -> None:
    first = batch()
    digests = circuit_digests(first)
    assert all(len(digest) == 32 and int(digest, 16) >= 0 for digest in digests)
    assert len(set(digests)) == 3
    assert circuit_digests(CircuitBatch(first.template, first.angles[::-1])) == digests[::-1]
    nearly = first.angles.copy()
    nearly[1, 2] = np.nextafter(nearly[1, 2], 9.0)
    changed = circuit_digests(CircuitBatch(first.template, nearly))
    assert [a == b for a, b in zip(digests, changed, strict=True)] == [True, False, True]
    steps = (Rotation("rx", (0,), 0),)
    other = (Rotation("rz", (0,), 0),)
    templates = [Template(content_key(1, s), 1, s) for s in (steps, other)]
    assert len({circuit_digests(CircuitBatch(template, np.zeros((1, 1))))[0] for template in templates}) == 2


def test_the_sign_of_zero_makes_no_other_circuit() -> None:
    template = overlap_template(2)
    zeros = np.zeros((1, template.angle_count))
    assert circuit_digests(CircuitBatch(template, zeros)) == circuit_digests(CircuitBatch(template, -zeros))


def test_digests_are_those_of_any_other_process() -> None:
    program = """
import numpy as np
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.parts import circuit_digests
template = overlap_template(2)
print(*circuit_digests(CircuitBatch(template, np.arange(2.0 * template.angle_count).reshape(2, -1))))
"""
    template = overlap_template(2)
    mine = circuit_digests(CircuitBatch(template, np.arange(2.0 * template.angle_count).reshape(2, -1)))
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program]
        seeded = {"PYTHONHASHSEED": seed}
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=seeded)
        assert result.stdout.split() == mine
