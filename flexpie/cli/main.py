"""`flexpie`: the group of commands."""

from __future__ import annotations

import importlib
from typing import Any

import click

from flexpie import __version__

_COMMANDS = {
    "bench": "flexpie.cli.bench",
    "calibrate": "flexpie.cli.calibrate",
    "certs": "flexpie.cli.certs",
    "demo": "flexpie.cli.demo",
    "estimator": "flexpie.cli.estimator",
    "health": "flexpie.cli.health_command",
    "image-bytes": "flexpie.cli.image_bytes",
    "infer": "flexpie.cli.infer",
    "load": "flexpie.cli.load",
    "models": "flexpie.cli.models",
    "plan": "flexpie.cli.plan",
    "simulate": "flexpie.cli.simulate",
    "status": "flexpie.cli.status",
    "testbed": "flexpie.cli.testbed",
    "trace": "flexpie.cli.trace",
    "unload": "flexpie.cli.load",
    "verify": "flexpie.cli.verify",
}
"""Command → module that defines a click command of that name, with underscores for hyphens."""


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: Any = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flexpie")
def main() -> None:
    """Split every inference of an ONNX model over several small devices."""


if __name__ == "__main__":
    main()
