"""How commands speak: results on stdout, progress and errors on stderr, one exit code for each kind of end."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from flexpie.core.errors import ErrorCode, FlexPieError

EXIT_DIFFERENT = 1
"""`verify`: split and unsplit outputs differ."""
EXIT_FAILED = 3
"""The command could not do its work."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else.")


def print_json(result: Mapping[str, Any]) -> None:
    """The machine-readable result of a command."""
    click.echo(json.dumps(result, indent=2))


def fail(error: FlexPieError) -> NoReturn:
    """End the command with an error's text."""
    click.echo(f"error [{error.code.value}]: {error.message}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
    sys.exit(EXIT_FAILED)


def reporting(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn every failure of a command into a message; users see no traceback (unless FLEXPIE_DEBUG is set)."""

    @functools.wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            with _terminable():
                return command(*args, **kwargs)
        except FlexPieError as error:
            fail(error)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            sys.exit(130)
        except ImportError as error:
            if os.environ.get("FLEXPIE_DEBUG"):
                raise
            fail(FlexPieError(ErrorCode.INVALID_ARGUMENT, f"This command needs more packages ({error}).",
                              "Install them with: pip install 'flexpie[demo]'"))  # fmt: skip
        except OSError as error:
            if os.environ.get("FLEXPIE_DEBUG"):
                raise
            where = f"{error.filename}: " if error.filename else ""
            fail(FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{where}{error.strerror or error}."))
        except Exception as error:
            if os.environ.get("FLEXPIE_DEBUG"):
                raise
            fail(FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}",
                              "This is a defect of FlexPie; FLEXPIE_DEBUG=1 shows where."))  # fmt: skip

    return wrapper


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command like Ctrl-C, so that it stops the processes that it started."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class ShapeType(click.ParamType):  # type: ignore[type-arg]
    """``name=1x3x224x224``."""

    name = "NAME=1x3x224x224"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, equals, text = str(value).rpartition("=")
        parts = text.replace(",", "x").split("x") if text else []
        if not equals or not name or not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is not a shape; write it like input=1x3x224x224", param, ctx)
        return name, tuple(int(part) for part in parts)


shape_option = click.option(
    "--shape", "shapes", type=ShapeType(), multiple=True, metavar="NAME=1x3x224x224",
    help="Shape of an input whose dimensions the file leaves open. May be given several times.",
)  # fmt: skip


class ProfileType(click.ParamType):  # type: ignore[type-arg]
    """``name=1x64,other=1x64``."""

    name = "NAME=1x64,NAME=1x64"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        shapes: dict[str, Any] = {}
        for item in str(value).split(","):
            if "=" not in item:
                self.fail(f"{value!r} is no profile; write it like ids=1x64,mask=1x64", param, ctx)
            name, shape = ShapeType().convert(item.strip(), param, ctx)
            if name in shapes:
                self.fail(f"{value!r} gives {name} twice", param, ctx)
            shapes[name] = shape
        return shapes


profile_option = click.option(
    "--profile", "profiles", type=ProfileType(), multiple=True, metavar="NAME=1x64,NAME=1x64",
    help="Instead of --shape: one set of shapes that requests may have. Give it once for each; each has its own plan.",
)  # fmt: skip


def profiles_of(
    shapes: tuple[tuple[str, tuple[int, ...]], ...], profiles: tuple[dict[str, tuple[int, ...]], ...]
) -> list[dict[str, tuple[int, ...]]]:
    """The profiles that ``--shape`` and ``--profile`` give, one or more."""
    if shapes and profiles:
        raise click.UsageError("give either --shape or --profile")
    for index, profile in enumerate(profiles):
        if profile in profiles[:index]:
            raise click.UsageError("two profiles are the same")
    return list(profiles) or [dict(shapes)]


scheme_option = click.option(
    "--scheme", default="auto", show_default=True, type=click.Choice(["auto", "InH", "InW", "OutC", "Grid2D"]),
    help="Force one scheme for every layer instead of planning.",
)  # fmt: skip

master_option = click.option(
    "--master", "address", default="localhost:50050", show_default=True, envvar="FLEXPIE_MASTER",
    metavar="HOST:PORT", help="Address of a running flexpie-master.",
)  # fmt: skip
