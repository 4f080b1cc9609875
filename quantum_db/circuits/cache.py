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
    """Overlap templates by number of qubits, least recently used out first. Templates are immutable: safe to share."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._templates: OrderedDict[int, Template] = OrderedDict()
        self._hits = self._misses = self._evictions = 0

    def find(self, num_qubits: int) -> Template | None:
        """Return the template if it is held, and count the hit or miss."""
        template = self._templates.get(num_qubits)
        if template is None:
            self._misses += 1
            return None
        self._hits += 1
        self._templates.move_to_end(num_qubits)
        return template

    def put(self, template: Template) -> None:
        """Hold a template. Idempotent."""
        self._templates[template.num_qubits] = template
        self._templates.move_to_end(template.num_qubits)
        while len(self._templates) > self._capacity:
            self._templates.popitem(last=False)
            self._evictions += 1

    def find_or_build(self, num_qubits: int) -> Template:
        """Return the template, building it on a miss."""
        template = self.find(num_qubits)
        if template is None:
            template = overlap_template(num_qubits)
            self.put(template)
        return template

    def counts(self) -> CacheCounts:
        """Return what the cache has done."""
        return CacheCounts(self._hits, self._misses, self._evictions, len(self._templates))
