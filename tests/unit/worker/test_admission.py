"""Only programs whose every step finds what it needs are admitted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import (
    MASTER,
    Assemble,
    DeviceProgram,
    Part,
    Receive,
    Release,
    Run,
    Send,
    Step,
    SubgraphRef,
    Value,
)
from flexpie.core.region import Interval, Region
from flexpie.core.tensor import ElementType
from flexpie.worker.admission import check_program, request_bytes, weight_bytes
from tests.worker_programs import device_program, master_program, part, ref, value

VALUES = (value("x", 0, 4), value("x", 4, 8), value("x", 0, 8), Value("n", Region.of((0, 4)), ElementType.INT64))
FIRST = Receive(0, MASTER, (0,))


def program(*steps: Step) -> DeviceProgram:
    return DeviceProgram(0, VALUES, steps)


@pytest.mark.parametrize("device", [0, 1])
def test_good_programs_are_admitted(device: int) -> None:
    check_program(device_program(device))
    check_program(master_program())


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((Receive(0, MASTER, (9,)),), "there is no value 9"),
        ((FIRST, FIRST), "two messages"),
        ((Send(0, 1, (part(0, 0, 4),)),), "value 0 is not there"),
        ((FIRST, Send(0, 1, (part(0, 2, 6),))), "outside"),
        ((FIRST, Send(0, 1, (Part(0, Region.of((0, 1), (0, 1))),))), "outside"),
        ((FIRST, Send(0, 1, (Part(0, Region((Interval(3, 2),))),))), "outside"),
        ((FIRST, Release((0,)), Release((0,))), "value 0 is not there"),
        ((FIRST, Release((0,)), Send(0, 1, (part(0, 0, 1),))), "value 0 is not there"),
        ((FIRST, Run(0, (0,), (1,))), "no subgraph 0"),
        ((FIRST, Assemble(2, (part(0, 0, 4),))), "do not cover"),
        ((FIRST, Assemble(1, (part(0, 0, 4),))), "outside"),
        ((FIRST, Assemble(3, (part(0, 0, 4),))), "element type"),
        ((FIRST, Assemble(7, (part(0, 0, 4),))), "there is no value 7"),
        ((Assemble(2, (part(0, 0, 4), part(1, 4, 8))),), "value 0 is not there"),
        (("step",), "unknown kind"),
    ],
)
def test_other_programs_are_refused(steps: tuple[Step, ...], text: str) -> None:
    with pytest.raises(FlexPieError, match=text) as raised:
        check_program(program(*steps))
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_a_program_that_fits_no_machine_is_refused() -> None:
    vast = Value("y", Region.of((0, 2**63 - 1)), ElementType.FLOAT32)
    with pytest.raises(FlexPieError, match=f"it takes {4 * (2**63 - 1)} bytes") as caught:
        check_program(DeviceProgram(0, (vast,), (Receive(0, MASTER, (0,)),)))
    assert caught.value.code is ErrorCode.CORRUPT_PACKAGE


def test_memory_is_weights_and_the_most_values_at_once() -> None:
    assert request_bytes(program(FIRST, Receive(1, 1, (1,)), Assemble(2, (part(0, 0, 4), part(1, 4, 8))))) == 64
    assert request_bytes(program(FIRST, Release((0,)), Receive(1, 1, (1,)), Release((1,)))) == 16
    weights = SubgraphRef("g", ref(b"model"), (ref(b"12345678"),))
    assert weight_bytes(replace(program(FIRST), subgraphs=(weights,))) == 8
