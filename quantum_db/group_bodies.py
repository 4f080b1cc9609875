"""Request bodies about entanglement groups."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, field_validator, model_validator

from quantum_db.cursors import MAX_CURSOR
from quantum_db.groups import GroupUpdate
from quantum_db.model import MAX_GROUP_MEMBERS, EntanglementGroup
from quantum_db.requests import MAX_SHOTS, MAX_TIMEOUT_MS, Body, EntityId, Finite, Name, refuse

MAX_PAGE = 1_000


class GroupBody(Body):
    """Entities to entangle."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "group_id": "related_docs",
                "entity_ids": ["doc_1", "doc_2", "doc_3"],
                "correlation_strength": 0.85,
            }
        }
    )

    group_id: EntityId
    entity_ids: Annotated[list[EntityId], Field(min_length=2, max_length=MAX_GROUP_MEMBERS)]
    correlation_strength: Annotated[Finite, Field(ge=0.0, le=1.0)]

    @field_validator("entity_ids")
    @classmethod
    def _members_differ(cls, ids: list[str]) -> list[str]:
        if len(set(ids)) < len(ids):
            twice = next(member for member in ids if ids.count(member) > 1)
            refuse(f"names {twice!r} twice; each member may stand once")
        return ids

    def to_group(self) -> EntanglementGroup:
        """Return the group in its first version."""
        return EntanglementGroup(self.group_id, tuple(self.entity_ids), self.correlation_strength)


class GroupUpdateBody(Body):
    """A change of a group that was read at ``expected_version``; ``If-Match`` may say the version instead."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"add": ["doc_4"], "remove": ["doc_1"], "expected_version": 1}}
    )

    add: Annotated[list[EntityId], Field(max_length=MAX_GROUP_MEMBERS, default_factory=list)]
    remove: Annotated[list[EntityId], Field(max_length=MAX_GROUP_MEMBERS, default_factory=list)]
    correlation_strength: Annotated[Finite, Field(ge=0.0, le=1.0)] | None = None
    expected_version: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _nobody_comes_and_goes(self) -> GroupUpdateBody:
        both = sorted(set(self.add) & set(self.remove))
        if both:
            refuse(f"and add both name {both[0]!r}; a member comes or goes", at="remove")
        return self

    def to_update(self) -> GroupUpdate:
        """Return what is asked."""
        return GroupUpdate(tuple(self.add), tuple(self.remove), self.correlation_strength)


class GroupPageBody(Body):
    """Which groups to list: those of a member, or all; ``cursor`` is the ``next`` of the page before."""

    member: EntityId | None = None
    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class MeasureBody(Body):
    """How to measure an entanglement group. ``chsh`` adds the Bell test of its first two members."""

    model_config = ConfigDict(json_schema_extra={"example": {"shots": 4096, "chsh": False}})

    shots: Annotated[int, Field(ge=1, le=MAX_SHOTS)] = 4_096
    backend: Name | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = 5_000
    chsh: bool = False
