"""Checks docker/ against the project that it packs, without Docker.

    python -m scripts.check_docker

- Dockerfiles: what they COPY exists and passes .dockerignore, the extra they install is declared, the image runs
  as a user other than root, has a HEALTHCHECK, and starts a console script of FlexPie.
- compose.yaml: services build these Dockerfiles, give their programs options that these know, and mount files
  that exist.
- cluster.yaml: one device for each worker service, at the address where it listens.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from flexpie.core.errors import FlexPieError
from flexpie.master.cluster_file import read_cluster_file
from scripts.console_scripts import complaint, console_scripts, run_help

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docker"
CLUSTER_FILE = FOLDER / "cluster.yaml"
WORKER_COMMAND = "flexpie-worker"

_INSTALLED_EXTRA = re.compile(r"\.\[([\w,-]+)\]")


def main() -> int:
    dockerfiles = {path.relative_to(ROOT): parse_dockerfile(path.read_text()) for path in FOLDER.glob("*.Dockerfile")}
    services: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    problems = [
        *(f"{path}: {problem}" for path, file in dockerfiles.items() for problem in check_dockerfile(file)),
        *check_compose(services, dockerfiles),
        *check_cluster(services, dockerfiles),
    ]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(dockerfiles)} Dockerfiles, {len(services)} services and the cluster file agree")
    return 1 if problems else 0


# ------------------------------------------------------------------------------------------- Dockerfiles


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, with continued lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments, whether in JSON or shell form."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return self.text.split()


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile's instructions."""

    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction | None:
        """The instruction that counts in the image: the last one after the last FROM."""
        start = max(at for at, instruction in enumerate(self.instructions) if instruction.name == "FROM")
        found = [instruction for instruction in self.instructions[start:] if instruction.name == name]
        return found[-1] if found else None

    @property
    def program(self) -> str | None:
        """The command that the image starts."""
        entry_point = self.last("ENTRYPOINT")
        return entry_point.words[0] if entry_point else None


def parse_dockerfile(text: str) -> Dockerfile:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    logical_lines = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    parts = (line.strip().partition(" ") for line in logical_lines)
    return Dockerfile(tuple(Instruction(name.upper(), rest.strip()) for name, _, rest in parts))


def check_dockerfile(file: Dockerfile) -> Iterator[str]:
    for copy in file.all("COPY"):
        if "--from=" not in copy.text:
            for source in copy.words[:-1]:
                yield from check_source(source)

    declared = set(metadata.metadata("flexpie").get_all("Provides-Extra") or ())
    for run in file.all("RUN"):
        for extras in _INSTALLED_EXTRA.findall(run.text):
            for extra in set(extras.split(",")) - declared:
                yield f"pyproject.toml declares no extra {extra!r}"

    user = file.last("USER")
    if user is None or user.text.partition(":")[0] in {"root", "0"}:
        yield "the image runs as root: end with USER and another user"
    health = file.last("HEALTHCHECK")
    if health is None or "CMD" not in health.text:
        yield "no HEALTHCHECK"
    else:
        command = Instruction("CMD", health.text.partition("CMD")[2].strip())
        yield from check_command(command.words, "HEALTHCHECK")
    if file.program not in console_scripts():
        yield f"ENTRYPOINT {file.program!r} is no console script of pyproject.toml"


def check_source(source: str) -> Iterator[str]:
    if not (ROOT / source).exists():
        yield f"COPY {source}: no such file"
    elif is_ignored(source, (ROOT / ".dockerignore").read_text()):
        yield f"COPY {source}: .dockerignore keeps it out"


def is_ignored(path: str, dockerignore: str) -> bool:
    """Whether Docker leaves a path of the root folder out of the build context: the last matching line decides."""
    ignored = False
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch.fnmatch(path, pattern.lstrip("!").strip("/")):
            ignored = not pattern.startswith("!")
    return ignored


def check_command(words: list[str], place: str) -> Iterator[str]:
    """Whether a console script takes these words."""
    if words[0] not in console_scripts():
        yield f"{place}: {words[0]!r} is no console script of pyproject.toml"
    elif problem := complaint(run_help(*words)):
        yield f"{place}: `{' '.join(words)}`: {problem}"


# ------------------------------------------------------------------------------- compose and cluster file


def check_compose(services: Mapping[str, Any], dockerfiles: Mapping[Path, Dockerfile]) -> Iterator[str]:
    for name, service in services.items():
        build = service["build"]
        if (FOLDER / build["context"]).resolve() != ROOT:
            yield f"compose.yaml: {name}: the build context is not the root folder"
        dockerfile = dockerfiles.get(Path(build["dockerfile"]))
        if dockerfile is None:
            yield f"compose.yaml: {name}: no such Dockerfile: {build['dockerfile']}"
        elif dockerfile.program in console_scripts():
            words = [dockerfile.program, *service.get("command", [])]
            yield from (f"compose.yaml: {problem}" for problem in check_command(words, name))
        for volume in service.get("volumes", []):
            source = str(volume).partition(":")[0]
            if source.startswith(".") and not (FOLDER / source).exists():
                yield f"compose.yaml: {name}: mounts {source}, which does not exist"


def check_cluster(services: Mapping[str, Any], dockerfiles: Mapping[Path, Dockerfile]) -> Iterator[str]:
    try:
        cluster = read_cluster_file(CLUSTER_FILE).cluster
    except FlexPieError as error:
        yield str(error)
        return
    worker_files = {str(path) for path, file in dockerfiles.items() if file.program == WORKER_COMMAND}
    listening = {
        f"{name}:{option(service['command'], '--port')}"
        for name, service in services.items()
        if service["build"]["dockerfile"] in worker_files
    }
    named = {device.address for device in cluster.devices}
    for address in sorted(named - listening):
        yield f"cluster.yaml: no worker of compose.yaml listens at {address}"
    for address in sorted(listening - named):
        yield f"cluster.yaml: the worker at {address} is missing"


def option(command: list[str], name: str) -> str | None:
    """The value that follows an option."""
    return dict(itertools.pairwise(command)).get(name)


if __name__ == "__main__":
    sys.exit(main())
