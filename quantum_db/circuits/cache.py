"""A bounded cache of circuit structures, keyed by what they are."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import Template


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What a cache has done since it was made, and how many entries it holds now."""

    hits: int
    misses: int
    evictions: int
    entries: int


class TemplateCache:
    """Templates by content key, least recently used out first. They are immutable: safe to share."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._templates: OrderedDict[str, Template] = OrderedDict()
        self._overlap_keys: dict[int, str] = {}
        self._hits = self._misses = self._evictions = 0

    def find(self, key: str) -> Template | None:
        """Return the template with this key if it is held, and count the hit or miss."""
        template = self._templates.get(key)
        if template is None:
            self._misses += 1
            return None
        self._hits += 1
        self._templates.move_to_end(key)
        return template

    def find_overlap(self, num_qubits: int) -> Template | None:
        """Return the overlap template of this size if it is held, and count the hit or miss."""
        return self.find(self._overlap_keys.get(num_qubits, ""))

    def put_overlap(self, template: Template) -> None:
        """Hold an overlap template. Idempotent."""
        self._overlap_keys[template.num_qubits] = template.key
        self.put(template)

    def put(self, template: Template) -> None:
        """Hold a template of any family. Idempotent."""
        self._templates[template.key] = template
        self._templates.move_to_end(template.key)
        while len(self._templates) > self._capacity:
            self._templates.popitem(last=False)
            self._evictions += 1

    def holds(self, key: str) -> bool:
        """Return whether a template with this key is held, without counting a hit or miss."""
        return key in self._templates

    def overlap(self, num_qubits: int) -> Template:
        """Return the overlap template of this size, building it on a miss."""
        template = self.find_overlap(num_qubits)
        if template is None:
            template = overlap_template(num_qubits)
            self.put_overlap(template)
        return template

    def counts(self) -> CacheCounts:
        """Return what the cache has done."""
        return CacheCounts(self._hits, self._misses, self._evictions, len(self._templates))
