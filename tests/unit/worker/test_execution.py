"""Steps over tables of values."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.worker.engine import FakeEngine, FakeModel, Port
from flexpie.worker.execution import ValueTable, check_session
from tests.worker_programs import device_program, fake_engine

INT = ElementType.INT64
IMAGE = np.arange(24).reshape(4, 6)


def value(rows: tuple[int, int], columns: tuple[int, int], dtype: ElementType = INT) -> Value:
    return Value("t", Region.of(rows, columns), dtype)


PROGRAM = DeviceProgram(0, (value((0, 4), (0, 6)), value((1, 3), (2, 6)), value((1, 3), (2, 4))), ())


def table(program: DeviceProgram = PROGRAM) -> ValueTable:
    found = ValueTable(program)
    found.arrays[0] = IMAGE
    return found


def test_parts_are_cut_in_the_tensors_coordinates() -> None:
    found = table()
    found.arrays[1] = IMAGE[1:3, 2:6]
    (part,) = found.cut([Part(1, Region.of((2, 3), (3, 5)))])
    assert np.frombuffer(part, np.int64).tolist() == [15, 16]


def test_values_are_assembled_from_parts() -> None:
    found = table()
    left, right = Part(0, Region.of((1, 3), (2, 3))), Part(0, Region.of((1, 3), (3, 6)))
    found.execute([Assemble(1, (right, left))], [], [])
    np.testing.assert_array_equal(found.arrays[1], IMAGE[1:3, 2:6])


def test_messages_are_split_into_values() -> None:
    found = ValueTable(PROGRAM)
    payload = IMAGE[1:3, 2:6].tobytes() + IMAGE[1:3, 2:4].tobytes()
    found.execute([Receive(0, MASTER, (1, 2))], [payload], [])
    np.testing.assert_array_equal(found.arrays[1], IMAGE[1:3, 2:6])
    np.testing.assert_array_equal(found.arrays[2], IMAGE[1:3, 2:4])


def test_strings_are_assembled_and_cut() -> None:
    program = DeviceProgram(
        0, (value((0, 1), (0, 2), ElementType.STRING), value((0, 1), (0, 2), ElementType.STRING)), ()
    )
    found = ValueTable(program)
    found.arrays[0] = np.array([["a", "ü"]], dtype=object)
    whole = Part(0, Region.of((0, 1), (0, 2)))
    found.execute([Assemble(1, (whole,))], [], [])
    assert found.arrays[1].tolist() == [["a", "ü"]]
    assert bytes(found.cut([whole])[0]) == b"\x01\0\0\0a\x02\0\0\0\xc3\xbc"


def test_released_values_are_gone() -> None:
    found = table()
    found.execute([Release((0, 1))], [], [])
    assert not found.arrays


def test_a_discarded_table_executes_nothing() -> None:
    found = table()
    found.discard()
    found.execute([Release((0,))], [], [])
    assert found.arrays


def test_feeds_are_checked() -> None:
    with pytest.raises(FlexPieError, match="input t must be given") as raised:
        ValueTable(PROGRAM, {"t": IMAGE[:1]}).execute([Feed(0)], [], [])
    assert raised.value.code is ErrorCode.INVALID_INPUT
    found = ValueTable(PROGRAM, {"t": IMAGE})
    found.execute([Feed(0)], [], [])
    assert found.arrays[0] is IMAGE


def test_an_output_of_another_shape_is_a_failure() -> None:
    port = Port("t", (None, None), INT)
    engine = FakeEngine({b"m": FakeModel((port,), (port,), lambda arrays: [arrays[0][:1]])})
    with pytest.raises(FlexPieError, match=r"t with shape \(1, 6\) instead of \(2, 4\)") as raised:
        table().execute([Run(0, (0,), (1,))], [], [engine.load(b"m")])
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


def test_sessions_must_fit_their_step() -> None:
    program, engine = device_program(0), fake_engine()
    double, window = (engine.load(content) for content in (b"\x12\x06double", b"\x12\x06window"))
    check_session(program, Run(0, (0,), (1,)), double)
    for run, session in ((Run(0, (0,), (1,)), window), (Run(0, (0, 1), (1,)), double), (Run(0, (0,), ()), double)):
        with pytest.raises(FlexPieError, match="Subgraph double has") as raised:
            check_session(program, run, session)
        assert raised.value.code is ErrorCode.CORRUPT_PACKAGE
