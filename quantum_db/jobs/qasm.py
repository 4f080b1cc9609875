"""OpenQASM 3 programs, as anybody may send them, to circuits of gates alone.

The importer is qiskit's. It reads no file: ``stdgates.inc`` is known to it by name. The parser is in Python and takes
10 to 20 microseconds for each character.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, NoReturn

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from antlr4.error.Errors import ParseCancellationException
from antlr4.error.ErrorStrategy import BailErrorStrategy
from openqasm3 import ast
from openqasm3.parser import QASM3ParsingError, QASMNodeVisitor, qasm3Lexer, qasm3Parser  # type: ignore[attr-defined]
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.exceptions import QiskitError
from qiskit_qasm3_import import ConversionError, convert

from quantum_db.errors import InvalidCircuit
from quantum_db.jobs.lowering import one_line, panics_refused
from quantum_db.jobs.qasm_limits import MAX_WORK, ProgramCheck, check_text

MAX_SOURCE_CHARS: Final = 65_536
MAX_TOTAL_CHARS: Final = 524_288
"""Of the different programs of one reader: some ten seconds of parsing."""

_COMMENT: Final = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the importer raises, besides its own error, for programs that make no sense."""


class QasmReader:
    """Reads the programs of one job: what they cost together is bounded."""

    def __init__(self, max_qubits: int) -> None:
        self._max_qubits = max_qubits
        self._chars = MAX_TOTAL_CHARS
        self._work = MAX_WORK

    def read(self, source: str) -> QuantumCircuit:
        """Return the circuit of a program: its gates, without barriers and without the measurements at its end.

        Modifiers (``ctrl``, ``negctrl``, ``inv``, ``pow``), gate definitions, aliases and physical qubits are known.

        Raises:
            InvalidCircuit: it is not OpenQASM 3, is too large, or is more than gates with measurements at their end.
        """
        self._chars -= len(source)
        if len(source) > MAX_SOURCE_CHARS or self._chars < 0:
            raise InvalidCircuit(
                f"is too long: a program may have {MAX_SOURCE_CHARS} characters, the different ones of a job "
                f"{MAX_TOTAL_CHARS} together"
            )
        bare = _COMMENT.sub(" ", source)
        check_text(bare, self._max_qubits)
        try:
            program = _parse(source)
            check = ProgramCheck(self._max_qubits, self._work, bare)
            check.program(program)
            self._work = check.work
            with panics_refused():
                return _gates_of(convert(program))
        except RecursionError:
            raise InvalidCircuit("has an expression that is too long; write it as one number") from None
        except (QASM3ParsingError, ConversionError, QiskitError, *_UNREADABLE) as error:
            raise InvalidCircuit(f"is not an OpenQASM 3 program that makes sense: {_told(error)}") from None


def _told(error: Exception) -> str:
    """Return what parser or importer say; they write ``L2:C5:`` or ``2,5:`` for line 2, column 5."""
    return re.sub(r"^L?(\d+)(?:,|:C)\d+: ", r"line \1: ", one_line(error))


class _Errors(ErrorListener):  # type: ignore[misc]
    """Turns the parser's messages, which would be printed, into errors."""

    def syntaxError(self, *told: Any) -> NoReturn:  # noqa: N802 - the parser's own name
        _, _, line, column, message, _ = told
        raise QASM3ParsingError(f"L{line}:C{column}: {message}")


def _parse(source: str) -> ast.Program:
    """Return the program, as ``openqasm3.parse`` does, which prints what is wrong and does not raise it."""
    lexer = qasm3Lexer(InputStream(source))
    parser = qasm3Parser(CommonTokenStream(lexer))
    parser._errHandler = BailErrorStrategy()  # the runtime has no setter
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(_Errors())
    try:
        tree = parser.program()
    except ParseCancellationException as error:
        raise QASM3ParsingError("a statement is not complete") from error
    found = QASMNodeVisitor().visitProgram(tree)  # type: ignore[no-untyped-call]
    assert isinstance(found, ast.Program)
    return found


def _gates_of(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the gates alone. Raises InvalidCircuit where a qubit is used after it was measured."""
    place = {qubit: index for index, qubit in enumerate(circuit.qubits)}
    found = QuantumCircuit(circuit.num_qubits)
    measured: set[int] = set()
    for instruction in circuit.data:
        qubits = [place[qubit] for qubit in instruction.qubits]
        if instruction.operation.name == "barrier":
            continue
        if measured.intersection(qubits):
            raise InvalidCircuit("uses a qubit after it was measured; measurements can stand only at the end")
        if instruction.operation.name == "measure":
            measured.update(qubits)
        else:
            _check_angles(instruction.operation)
            found.append(instruction.operation, qubits)
    return found


def _check_angles(gate: Any) -> None:
    """Refuse angles that are no finite numbers, also of the gates that a defined gate is made of.

    Raises OverflowError for a whole number that is too large, at which the transpiler would panic.
    """
    for value in gate.params:
        if not isinstance(value, complex | list) and not hasattr(value, "shape") and not math.isfinite(float(value)):
            raise InvalidCircuit("has an angle that is not finite; every angle must be a number of radians")
    if type(gate) is Gate and gate.definition is not None:
        for instruction in gate.definition.data:
            _check_angles(instruction.operation)
