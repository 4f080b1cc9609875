"""What an OpenQASM 3 program would make the importer do, added up before it does so.

The importer makes a register of any size, and a short program of gates that call gates can stand for more gates than
any memory holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final, NoReturn

from openqasm3 import ast

from quantum_db.errors import InvalidCircuit

MAX_NESTING: Final = 16
"""Of brackets, of signs in a row, and of gates that call gates."""
MAX_BITS: Final = 1_024
MAX_NUMBER: Final = 1e15
MAX_POWER_QUBITS: Final = 3
"""Of a gate that ``pow`` is asked of: it takes the matrix."""

MAX_WORK: Final = 200_000
"""Gates that the programs of a job may stand for; those of defined gates count as ``_COPY_WORK`` each."""
_COPY_WORK: Final = 8
_CONTROL_WORK: Final = 16

_SIGNS: Final = re.compile(rf"(?:[-~!]\s*){{{MAX_NESTING + 1},}}")
_PHYSICAL: Final = re.compile(r"\$(\d+)")

_ARITY: Final = MappingProxyType(
    {
        **dict.fromkeys(("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "id"), (0, 1)),
        **dict.fromkeys(("p", "rx", "ry", "rz", "phase", "u1"), (1, 1)),
        **dict.fromkeys(("cx", "cy", "cz", "ch", "swap", "CX"), (0, 2)),
        **dict.fromkeys(("cp", "crx", "cry", "crz", "cphase"), (1, 2)),
        **dict.fromkeys(("ccx", "cswap"), (0, 3)),
        **dict.fromkeys(("u3", "U"), (3, 1)),
        "u2": (2, 1),
        "cu": (4, 2),
    }
)
"""Gates of the language and of stdgates.inc -> (angles, qubits)."""

_REFUSED: Final[MappingProxyType[type[ast.QASMNode], str]] = MappingProxyType(
    {
        ast.QuantumReset: "reset",
        ast.BranchingStatement: "if",
        ast.SwitchStatement: "switch",
        ast.ForInLoop: "for",
        ast.WhileLoop: "while",
        ast.IODeclaration: "input or output",
        ast.ClassicalDeclaration: "classical variable but bits",
        ast.ConstantDeclaration: "const",
        ast.ClassicalAssignment: "assignment",
        ast.SubroutineDefinition: "def",
        ast.DelayInstruction: "delay",
        ast.Box: "box",
        ast.Pragma: "pragma",
    }
)


def check_text(bare: str, max_qubits: int) -> None:
    """Refuse what would keep the parser busy for long, and qubits that are not there."""
    if not bare.strip():
        raise InvalidCircuit("is empty")
    depth = deepest = 0
    for sign in re.findall(r"[(\[{}\])]", bare):
        depth += 1 if sign in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING or _SIGNS.search(bare):
        raise InvalidCircuit(f"has brackets or signs within each other more than {MAX_NESTING} times")
    for index in _PHYSICAL.findall(bare):
        if len(index) > 9 or int(index) >= max_qubits:
            raise InvalidCircuit(f"names the qubit ${index:.9}, and the backend has {max_qubits} qubits")


class ProgramCheck:
    """Adds up what a program would make the importer do, before it does so; ``work`` is what is left of it."""

    def __init__(self, max_qubits: int, work: int, bare: str) -> None:
        self.work = work
        self._max_qubits = max_qubits
        self._qubits = max((int(index) + 1 for index in _PHYSICAL.findall(bare)), default=0)
        self._bits = 0
        self._single: set[str] = set()
        self._arity: dict[str, tuple[int, int]] = dict(_ARITY)
        self._gates: dict[str, tuple[int, int]] = {}
        """Defined gate -> how many gates one call of it stands for, and how deep its calls go."""

    def program(self, program: ast.Program) -> None:
        """Raise InvalidCircuit where the program is too large or has a statement that is not taken."""
        if program.version is not None and not program.version.startswith("3"):
            raise InvalidCircuit(f"is OpenQASM {program.version:.20}; it must be OpenQASM 3")
        for statement in program.statements:
            self._statement(statement)
            if self._qubits > self._max_qubits:
                raise InvalidCircuit(f"has {self._qubits} qubits, and the backend takes {self._max_qubits}")
            if self._bits > MAX_BITS:
                raise InvalidCircuit(f"has {self._bits} classical bits; at most {MAX_BITS} are taken")
            if self.work < 0:
                raise InvalidCircuit(f"stands for too many gates; the programs of a job may have about {MAX_WORK}")
        if not self._qubits:
            raise InvalidCircuit("has no qubit")

    def _statement(self, node: ast.Statement | ast.Pragma) -> None:
        _no_annotations(node)
        if isinstance(node, ast.Include):
            if node.filename != "stdgates.inc":
                _refuse(node, f"{node.filename!r:.60} cannot be included, only 'stdgates.inc'")
        elif isinstance(node, ast.QubitDeclaration):
            self._qubits += _size(node, node.size)
            if node.size is None:
                self._single.add(node.qubit.name)
        elif isinstance(node, ast.ClassicalDeclaration) and isinstance(node.type, ast.BitType):
            self._bits += _size(node, node.type.size)
        elif isinstance(node, ast.QuantumGateDefinition):
            self._definition(node)
        elif isinstance(node, ast.QuantumGate | ast.QuantumPhase):
            self._spend(self._call(node)[0] * max((self._repeats(qubit) for qubit in node.qubits), default=1))
        elif not isinstance(node, ast.QuantumMeasurementStatement | ast.QuantumBarrier | ast.AliasStatement):
            what = _REFUSED.get(type(node), "statement of this kind")
            _refuse(node, f"there can be no {what}; a program is gates with numbers, then measurements")

    def _spend(self, gates: int) -> None:
        self.work -= gates if gates == 1 else _COPY_WORK * gates

    def _definition(self, node: ast.QuantumGateDefinition) -> None:
        parameters = {argument.name for argument in node.arguments}
        gates = depth = 1
        for statement in node.body:
            _no_annotations(statement)
            if isinstance(statement, ast.QuantumGate | ast.QuantumPhase):
                own, below = self._call(statement, parameters)
                gates, depth = gates + own, max(depth, 1 + below)
            elif not isinstance(statement, ast.QuantumBarrier):
                _refuse(statement, "a gate can be made of gates only")
        if depth > MAX_NESTING:
            _refuse(node, f"gates call each other more than {MAX_NESTING} times")
        self._gates[node.name.name] = gates, depth
        self._arity[node.name.name] = len(node.arguments), len(node.qubits)
        self._spend(gates)

    def _call(self, node: ast.QuantumGate | ast.QuantumPhase, parameters: Iterable[str] = ()) -> tuple[int, int]:
        """Return how many gates a call stands for, and how deep it goes.

        Each use of a parameter repeats what is put in for it.
        """
        name, arguments = "gphase", [node.argument] if isinstance(node, ast.QuantumPhase) else node.arguments
        controls = [_controls(modifier, self._max_qubits) for modifier in node.modifiers]
        qubits = len(node.qubits) - sum(controls)
        if isinstance(node, ast.QuantumGate):
            name = node.name.name
            arity = self._arity.get(name, (len(arguments), qubits))
            if arity != (len(arguments), qubits):
                _refuse(node, f"{name:.40} must have {_number(arity[0], 'angle')} and {_number(arity[1], 'qubit')}")
        gates, depth = self._gates.get(name, (1, 0))
        gates *= max((_uses(argument, parameters) for argument in arguments), default=1)
        for modifier, count in zip(reversed(node.modifiers), reversed(controls), strict=True):
            if modifier.modifier is ast.GateModifierName["pow"]:
                if qubits > MAX_POWER_QUBITS:
                    _refuse(node, f"pow can be asked of a gate on up to {MAX_POWER_QUBITS} qubits")
                gates += 4 ** (MAX_POWER_QUBITS + 1)
            elif count:
                gates *= _CONTROL_WORK * count * count
                qubits += count
        return gates, depth

    def _repeats(self, qubits: ast.IndexedIdentifier | ast.Identifier) -> int:
        """Return for how many qubits, at the most, a gate on these is repeated."""
        if isinstance(qubits, ast.Identifier):
            return 1 if qubits.name in self._single or qubits.name.startswith("$") else self._qubits
        index = qubits.indices[0]
        if isinstance(index, ast.DiscreteSet):
            return len(index.values)
        return self._qubits if isinstance(index[0], ast.RangeDefinition) else 1


def _refuse(node: ast.QASMNode, message: str) -> NoReturn:
    raise InvalidCircuit(f"line {node.span.start_line}: {message}" if node.span else message)


def _no_annotations(node: ast.Statement | ast.Pragma) -> None:
    """Refuse annotations: a comment sign in one is no comment, and what stands behind it would not be checked."""
    if isinstance(node, ast.Statement) and node.annotations:
        _refuse(node, "there can be no annotation")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _size(node: ast.QASMNode, size: ast.Expression | None) -> int:
    if size is None:
        return 1
    if not isinstance(size, ast.IntegerLiteral) or size.value < 1:
        _refuse(node, "a size must be written as a number from 1")
    return size.value


def _controls(modifier: ast.QuantumGateModifier, max_qubits: int) -> int:
    """Return how many controls a modifier adds."""
    if modifier.modifier not in {ast.GateModifierName.ctrl, ast.GateModifierName.negctrl}:
        return 0
    if modifier.argument is None:
        return 1
    if not isinstance(modifier.argument, ast.IntegerLiteral) or not 1 <= modifier.argument.value < max_qubits:
        _refuse(modifier, f"controls must be written as a number from 1 to {max_qubits - 1}")
    return modifier.argument.value


def _uses(expression: ast.Expression, parameters: Iterable[str]) -> int:
    """Return how often an angle uses parameters, but at least 1; refuse numbers at which the importer would panic."""
    uses, left = 0, [expression]
    while left:
        node = left.pop()
        if isinstance(node, ast.Identifier):
            uses += node.name in parameters
        elif isinstance(node, ast.UnaryExpression):
            left.append(node.expression)
        elif isinstance(node, ast.BinaryExpression):
            left += [node.lhs, node.rhs]
        elif isinstance(node, ast.IntegerLiteral | ast.FloatLiteral) and abs(node.value) > MAX_NUMBER:
            _refuse(expression, f"an angle has a number above {MAX_NUMBER:g}")
    return max(1, uses)
