"""How commands speak: JSON that every reader takes, and errors in words instead of tracebacks."""

from __future__ import annotations

import errno
import json
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from flexpie.cli.console import EXIT_FAILED, counted, ending_daemon, print_json, reporting
from flexpie.core.errors import ErrorCode, FlexPieError


def end_with(error: BaseException, name: str = "plan") -> Result:
    """What a command prints that fails with an exception."""

    @click.command(name)
    @reporting
    def command() -> None:
        raise error

    return CliRunner().invoke(command, prog_name=f"flexpie {name}")


def test_json_has_neither_nan_nor_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (float("-inf"), "x")}})

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"a": None, "b": [1.5, None], "c": {"d": [None, "x"]}}


def test_an_error_is_its_code_its_cause_and_its_remedy() -> None:
    result = end_with(FlexPieError(ErrorCode.TOO_LARGE, "It is too large.", "Make it smaller."))
    assert result.exit_code == EXIT_FAILED
    assert result.stdout == ""
    assert result.stderr == "error [TOO_LARGE]: It is too large.\n  Make it smaller.\n"


@pytest.mark.parametrize(
    ("name", "extra"), [("plan", "master"), ("demo", "demo"), ("models", "demo"), ("testbed", "testbed")]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(name: str, extra: str) -> None:
    result = end_with(ModuleNotFoundError("No module named 'thing.part'", name="thing.part"), name)
    assert result.exit_code == EXIT_FAILED
    assert "needs the package thing," in result.stderr
    assert f"pip install 'flexpie[{extra}]'" in result.stderr


def test_a_file_that_is_missing_is_named() -> None:
    assert "there.npy: No such file" in end_with(FileNotFoundError(2, "No such file or directory", "there.npy")).stderr


def test_a_defect_says_that_it_is_one_without_a_traceback() -> None:
    result = end_with(KeyError("surprise"))
    assert result.exit_code == EXIT_FAILED
    assert "defect" in result.stderr
    assert "Traceback" not in result.output


def test_ctrl_c_is_no_error() -> None:
    assert end_with(KeyboardInterrupt()).exit_code == 130


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            FlexPieError(ErrorCode.PORT_IN_USE, "The port is taken.", "Take another."),
            "d: The port is taken. Take another.",
        ),
        (ModuleNotFoundError("No module named 'thing'", name="thing"), "needs the package thing"),
    ],
)
def test_a_daemon_ends_with_one_line(error: Exception, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, ending_daemon("d"):
        raise error
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_a_daemons_defect_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), ending_daemon("d"):
        raise KeyError("surprise")


def test_numbers_agree_with_their_nouns() -> None:
    assert (counted(1, "segment"), counted(0, "segment"), counted(2, "device")) == (
        "1 segment", "0 segments", "2 devices"
    )  # fmt: skip


def test_where_nobody_reads_any_more_a_command_ends_quietly() -> None:
    result = end_with(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (result.exit_code, result.output) == (1, "")
