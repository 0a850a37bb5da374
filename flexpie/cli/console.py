"""How commands speak: results on stdout, progress and errors on stderr, one exit code for each kind of end."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from flexpie.cli.handshake_log import handshakes_logged
from flexpie.core.boundary import BOUNDARIES
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import OBJECTIVES, Objective
from flexpie.core.strategy import AUTO, BASELINES, DATA_PARALLEL

EXIT_DIFFERENT = 1
"""`verify`: split and unsplit outputs differ."""
EXIT_FAILED = 3
"""The command could not do its work."""

_LONGEST = 2**63 - 1
"""Length of an axis."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else.")


def print_json(result: Mapping[str, Any]) -> None:
    """The machine-readable result of a command. JSON knows neither NaN nor infinity: they become null."""
    click.echo(json.dumps(_finite(result), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def counted(number: int, noun: str) -> str:
    """``1 segment``, ``2 segments``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
        quieten_libraries()
        try:
            with _terminable():
                return command(*args, **kwargs)
        except FlexPieError as error:
            fail(error)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click ends quietly where nobody reads any more, as in `| head`
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            sys.exit(130)
        except Exception as error:
            if os.environ.get("FLEXPIE_DEBUG"):
                raise
            fail(explained(error))

    return wrapper


_EXTRAS = {
    "bench": "bench",
    "demo": "demo",
    "estimator": "estimator",
    "infer": "demo",
    "models": "demo",
    "testbed": "testbed",
    "trace": "estimator",
}
"""Command → extra of the installation that it needs; all others that need one need the master's."""


def explained(error: Exception) -> FlexPieError:
    """What a user is told of an exception."""
    if isinstance(error, FlexPieError):
        return error
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("flexpie."):
        context = click.get_current_context(silent=True)
        words = context.command_path.split() if context else []
        extra = next((_EXTRAS[word] for word in words if word in _EXTRAS), "master")
        package = (error.name or "").partition(".")[0]
        return FlexPieError(ErrorCode.INVALID_ARGUMENT, f"This needs the package {package}, which is not installed.",
                            f"Install it with: pip install 'flexpie[{extra}]'")  # fmt: skip
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{where}{error.strerror or error}.")
    return FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}",
                        "This is a defect of FlexPie; FLEXPIE_DEBUG=1 shows where.")  # fmt: skip


def quieten_libraries() -> None:
    """What the tools for ONNX say of a wrong model beside the exception that they raise; gRPC likewise."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for name in ("hpack", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_cancellation)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """gRPC calls it an exception that nobody handled when a server that stops ends the calls that are under way."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


parent_option = click.option(
    "--with-parent", is_flag=True, hidden=True, expose_value=False, help="End when standard input does.",
    callback=lambda context, parameter, wanted: _watch_parent() if wanted else None,
)  # fmt: skip
"""For daemons that a command starts: they end with it, even when it is killed."""


def _watch_parent() -> None:
    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def daemon_log(level: str, encrypted: bool) -> Iterator[None]:
    """Log on stderr while the block runs; where connections are `encrypted`, also those that were refused."""
    with handshakes_logged() if encrypted else nullcontext():
        logging.basicConfig(
            level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        yield


@contextmanager
def ending_daemon(name: str) -> Iterator[None]:
    """Tell in one line why a daemon cannot go on. A defect keeps its traceback: the log is where to look for it."""
    quieten_libraries()
    try:
        yield
    except (FlexPieError, ModuleNotFoundError) as error:
        click.echo(f"{name}: {explained(error)}", err=True)
        sys.exit(1)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, and a terminal that closes, end a command like Ctrl-C, so that it stops the processes it started."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ShapeType(click.ParamType):  # type: ignore[type-arg]
    """``name=1x3x224x224``."""

    name = "NAME=1x3x224x224"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, equals, text = str(value).rpartition("=")
        parts = text.replace(",", "x").split("x") if text else []
        lengths = [int(part) for part in parts if part.strip().isdecimal()]
        if not equals or not name or len(lengths) < len(parts) or max(lengths, default=0) > _LONGEST:
            self.fail(f"{value!r} is not a shape; write it like input=1x3x224x224", param, ctx)
        return name, tuple(lengths)


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
    "--scheme", default=AUTO, show_default=True, type=click.Choice([AUTO, *BASELINES, DATA_PARALLEL]),
    help="Do as this strategy does instead of searching for the best plan.",
)  # fmt: skip

objective_option = click.option(
    "--objective", default=Objective.LATENCY.value, show_default=True, type=click.Choice(OBJECTIVES),
    help="What the plan is to be best at: the time of one request, requests per second with many in flight, or the "
    "memory of the device that needs most of its own.",
)  # fmt: skip

boundary_option = click.option(
    "--boundary", type=click.Choice(BOUNDARIES),
    help="What float32 tensors are while they pass between devices: exact, or rounded to float16, which is half the "
    "bytes.  [default: float32]",
)  # fmt: skip

master_option = click.option(
    "--master", "address", default="localhost:50050", show_default=True, envvar="FLEXPIE_MASTER", show_envvar=True,
    metavar="HOST:PORT", help="Address of a running flexpie-master.",
)  # fmt: skip
