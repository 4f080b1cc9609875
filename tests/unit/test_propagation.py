"""Partners that follow an update: the pure rule, and what a transaction makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quantum_db.commits.bodies import TransactionBody, UpdateBody
from quantum_db.commits.operations import Delete, Insert, Transaction, Update
from quantum_db.commits.planning import Plan, Stored, needs, plan
from quantum_db.errors import InvalidRequest
from quantum_db.model import Context, EntanglementGroup, Entity
from quantum_db.propagation import MAX_MOVED, Change, change_between, moved
from quantum_db.requests import parse
from tests.unit.commit_world import World, same_state
from tests.unit.test_database import Bench

NAMES = ("x", "y", "z")
STRENGTHS = st.floats(0.0, 1.0)
SEEDS = st.integers(0, 1 << 32)


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def entity(name: str, seed: int, dimension: int = 4) -> Entity:
    """Some contexts, with vectors of their own or not."""
    rng = np.random.default_rng(seed)
    names = [one for one in NAMES if rng.random() < 0.6]
    raw = rng.random(len(names)) + 1e-3
    contexts = tuple(
        Context(one, float(weight), unit(*rng.normal(size=dimension)) if rng.random() < 0.5 else None)
        for one, weight in zip(names, raw / raw.sum(), strict=True)
    )
    return Entity(name, unit(*rng.normal(size=dimension)), contexts, metadata={"of": name})


def weights(of: Entity) -> dict[str, float]:
    return {context.name: context.weight for context in of.contexts}


def vectors(of: Entity) -> list[np.ndarray]:
    return [one for one in (of.vector, *(context.vector for context in of.contexts)) if one is not None]


# The rule


@settings(deadline=None)
@given(SEEDS, SEEDS, SEEDS, STRENGTHS)
def test_what_moves_stays_a_state_and_keeps_all_else(old: int, new: int, partner: int, strength: float) -> None:
    before = entity("p", partner)
    after = moved(before, change_between(entity("a", old), entity("a", new)), strength)
    for vector in vectors(after):
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    assert [one.name for one in after.contexts] == [one.name for one in before.contexts]
    assert [one.vector is None for one in after.contexts] == [one.vector is None for one in before.contexts]
    if before.contexts:
        assert min(weights(after).values()) >= 0.0
        assert sum(weights(after).values()) == pytest.approx(1.0, abs=1e-9)
    assert (after.id, after.metadata, after.coherence_time_ms) == (before.id, before.metadata, before.coherence_time_ms)


@settings(deadline=None)
@given(SEEDS, SEEDS, SEEDS)
def test_strength_0_and_no_change_move_nothing(old: int, new: int, partner: int) -> None:
    before = entity("p", partner)
    assert moved(before, change_between(entity("a", old), entity("a", new)), 0.0) is before
    assert moved(before, change_between(entity("a", old), entity("a", old)), 1.0) is before


@settings(deadline=None)
@given(SEEDS, SEEDS)
def test_strength_1_moves_by_the_whole_change(old: int, new: int) -> None:
    """A partner that was where the updated entity was is afterwards where that is."""
    before = entity("a", old)
    after = replace(entity("a", new), contexts=before.contexts)
    raw = np.random.default_rng(new).random(len(before.contexts)) + 0.1
    own = [None if one.vector is None else -one.vector[::-1] for one in before.contexts]
    after = replace(
        after,
        contexts=tuple(
            Context(one.name, float(weight), vector)
            for one, weight, vector in zip(before.contexts, raw / max(raw.sum(), 0.1), own, strict=True)
        ),
    )
    twin = moved(replace(before, id="p"), change_between(before, after), 1.0)
    for got, wanted in zip(vectors(twin), vectors(after), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert weights(twin) == pytest.approx(weights(after), abs=1e-9)


@settings(deadline=None)
@given(SEEDS, SEEDS, SEEDS, STRENGTHS, STRENGTHS)
def test_a_stronger_partner_comes_no_less_far(old: int, new: int, partner: int, one: float, other: float) -> None:
    weak, strong = sorted((one, other))
    change = change_between(entity("a", old), entity("a", new))
    before = entity("p", partner)
    step = change.vectors.get(None)
    assume(step is not None)
    assert step is not None
    assert before.vector is not None
    along = []
    for strength in (weak, strong):
        after = moved(before, change, strength).vector
        assert after is not None
        wide = before.vector + strength * step
        assume(np.linalg.norm(wide) > 0.01)
        along.append(float(after @ step / np.linalg.norm(step)))
    assert along[1] >= along[0] - 1e-5


def test_each_vector_and_weight_follows_its_namesake() -> None:
    old = Entity("o", unit(1, 0, 0), (Context("x", 0.5), Context("y", 0.5, unit(0, 1, 0))))
    new = Entity("o", unit(0, 0, 1), (Context("x", 0.9), Context("z", 0.1, unit(0, 1, 0))))
    change = change_between(old, new)
    assert change.vectors.keys() == {None, "x"}, "x has the entity's vector; y and z have no namesake"
    assert change.weights == pytest.approx({"x": 0.4, "y": -0.5, "z": 0.1})
    partner = Entity("p", unit(0, 1, 0), (Context("x", 0.4, unit(1, 0, 0)), Context("w", 0.6, unit(1, 1, 0))))
    after = moved(partner, change, 0.5)
    np.testing.assert_allclose(after.vector, unit(-0.5, 1, 0.5), atol=1e-6)
    np.testing.assert_allclose(after.contexts[0].vector, unit(0.5, 0, 0.5), atol=1e-6)
    assert after.contexts[1].vector is partner.contexts[1].vector
    assert weights(after) == pytest.approx({"x": 0.5, "w": 0.5}), "0.4 + 0.5 * 0.4 and 0.6, of sum 1"


def test_what_a_change_would_cancel_stays() -> None:
    partner = Entity("p", unit(0, 1), (Context("x", 1.0),))
    assert moved(partner, Change({None: np.array([0.0, -1.0])}, {"x": -1.0}), 1.0) is partner


# In a transaction


def planned(transaction: Transaction, entities: dict[str, Entity], *groups: EntanglementGroup) -> Plan:
    wanted = needs(transaction)
    of = {one: [group for group in groups if one in group.entity_ids] for one in wanted.groups}
    wanted = wanted.with_partners(of)
    found = {one: entities.get(one) for one in wanted.entities}
    versions = {one: entities[one].version if one in entities else None for one in wanted.versions}
    return plan(transaction, Stored(found, versions, 2, of), commit=9)


RING = [EntanglementGroup(f"g{i}", (f"e{i}", f"e{(i + 1) % 4}"), 0.5) for i in range(4)]
FOUR = {f"e{i}": Entity(f"e{i}", unit(1, 0), version=i) for i in range(4)}


def test_a_cycle_is_not_walked_round_each_partner_moves_once() -> None:
    done = planned(Transaction((Update("e0", {"vector": unit(0, 1)}, propagate=True),)), FOUR, *RING)
    assert done.results == ({"op": "update", "id": "e0", "version": 9, "moved": ["e1", "e3"]},)
    assert {one.id: one.version for one in done.upserts} == {"e0": 9, "e1": 9, "e3": 9}
    for one in done.upserts[1:]:
        np.testing.assert_allclose(one.vector, unit(0.5, 0.5), atol=1e-6)


def test_several_groups_of_two_entities_move_the_partner_once_by_their_joint_strength() -> None:
    both = [EntanglementGroup("g", ("e0", "e1"), 0.5), EntanglementGroup("h", ("e0", "e1"), 0.5)]
    done = planned(Transaction((Update("e0", {"vector": unit(0, 1)}, propagate=True),)), FOUR, *both)
    np.testing.assert_allclose(done.upserts[1].vector, unit(0.25, 0.75), atol=1e-6)


def test_operations_take_place_in_their_order_also_on_partners() -> None:
    pair = EntanglementGroup("g", ("e0", "e1", "e2", "gone"), 1.0)
    operations = (
        Delete("e2"),
        Insert(Entity("e1", unit(0, 1))),
        Update("e0", {"vector": unit(1, 1)}, propagate=True),
        Update("e1", {"metadata": {"read": True}}, propagate=True),
    )
    done = planned(Transaction(operations), FOUR, pair)
    assert done.deletes == ("e2",)
    assert done.results[2]["moved"] == ["e1"], "who is deleted, or never was, does not move"
    assert done.results[3]["moved"] == [], "metadata move nobody"
    by_id = {one.id: one for one in done.upserts}
    change = unit(1, 1) - unit(1, 0)
    np.testing.assert_allclose(by_id["e1"].vector, unit(*(unit(0, 1) + change)), atol=1e-6)
    assert by_id["e1"].metadata == {"read": True}


def test_without_propagate_nobody_moves_and_no_group_is_read() -> None:
    transaction = Transaction((Update("e0", {"vector": unit(0, 1)}),))
    assert needs(transaction).groups == ()
    assert [one.id for one in planned(transaction, FOUR, *RING).upserts] == ["e0"]


def test_too_many_partners_are_refused_in_a_clear_sentence() -> None:
    members = tuple(f"p{i}" for i in range(700))
    groups = [EntanglementGroup("g", ("e0", *members), 0.5), EntanglementGroup("h", ("e1", *members[:300]), 0.5)]
    two = (Update("e0", {"vector": unit(0, 1)}, propagate=True), Update("e1", {"vector": unit(0, 1)}, propagate=True))
    planned(Transaction(two), FOUR, *groups)
    groups.append(EntanglementGroup("i", ("e1", *(f"q{i}" for i in range(MAX_MOVED - 699))), 0.5))
    with pytest.raises(InvalidRequest, match="would move 1001 partners; one transaction may move at most 1,000"):
        planned(Transaction(two), FOUR, *groups)


def test_the_bodies_take_propagate_and_it_is_no_change_by_itself() -> None:
    body = parse(UpdateBody, {"vector": [1.0, 0.0], "propagate": True})
    assert (body.propagate, set(body.changes())) == (True, {"vector"})
    with pytest.raises(InvalidRequest, match="changes nothing"):
        parse(UpdateBody, {"propagate": True})
    raw = {"operations": [{"update": {"id": "a", "vector": [1.0, 0.0], "propagate": True}}]}
    (operation,) = parse(TransactionBody, raw).to_transaction("k").operations
    assert isinstance(operation, Update)
    assert operation.propagate
    quiet = replace(operation, propagate=False)
    assert Transaction((operation,), "k").digest != Transaction((quiet,), "k").digest


# Through the API and the protocol


async def test_an_update_by_the_api_moves_partners_also_for_queries_before_the_commit() -> None:
    bench = Bench()
    for n in range(3):
        await bench.api.insert({"id": f"e{n}", "vector": [1.0, 0.0]})
    await bench.api.create_group({"group_id": "g", "entity_ids": ["e0", "e1"], "correlation_strength": 1.0})
    change = {"vector": [0.0, 1.0], "propagate": True}
    query = {"vector": [0.0, 1.0], "mode": "classical", "top_k": 2}
    under = {"query": query, "operations": [{"update": {"id": "e0", **change}}]}
    seen = await bench.api.query_under(under)
    assert {hit["id"] for hit in seen["hits"]} == {"e0", "e1"}
    assert bench.store.entities["e1"].vector is not None
    assert bench.store.entities["e1"].vector.tolist() == [1.0, 0.0], "nothing took place"
    answer = await bench.api.update("e0", change)
    assert answer == {"id": "e0", "version": answer["version"], "moved": ["e1"]}
    moved_one = await bench.api.fetch("e1")
    assert (moved_one["version"], moved_one["vector"]) == (answer["version"], pytest.approx([0.0, 1.0], abs=1e-6))
    assert bench.groups.written.count("e1") == 1, "its caches were told"
    assert (await bench.api.update("e0", {"metadata": {}})).keys() == {"id", "version"}


def test_partners_are_claimed_so_that_no_write_of_theirs_is_lost() -> None:
    world = World(0)
    for one in FOUR.values():
        world.ask(Transaction((Insert(one),)))
    world.settle()
    world.groups = {group.group_id: group for group in RING}
    update = world.ask(Transaction((Update("e0", {"vector": unit(0, 1)}, propagate=True),), "k"))
    writes = [world.ask(Transaction((Update("e1", {"metadata": {"n": n}}),))) for n in range(3)]
    world.settle()
    answer = world.answers[update].answer
    assert answer is not None
    assert answer["results"][0]["moved"] == ["e1", "e3"]
    assert all(world.answers[ticket].answer is not None for ticket in writes)
    np.testing.assert_allclose(world.store["e1"].vector, unit(0.5, 0.5), atol=1e-6)
    assert world.store["e1"].metadata == {"n": 2}
    again = world.ask(Transaction((Update("e0", {"vector": unit(0, 1)}, propagate=True),), "k"))
    before = same_state(world.store["e1"])
    world.settle()
    assert world.answers[again].answer == answer
    assert same_state(world.store["e1"]) == before, "done once"


def test_groups_that_keep_changing_end_in_a_refusal_and_not_in_a_circle() -> None:
    world = World(1)
    world.ask(Transaction((Insert(FOUR["e0"]),)))
    world.settle()
    ticket = world.ask(Transaction((Update("e0", {"vector": unit(0, 1)}, propagate=True),)))
    for n in range(100):
        world.groups = {"g": EntanglementGroup("g", ("e0", f"p{n}"), 0.5)}
        if not world.step():
            break
    error = world.answers[ticket].error
    assert error is not None
    assert "keep changing" in error.detail
    assert len(world.protocol._claims) == 0
