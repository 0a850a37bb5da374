"""The Docker check finds each mistake it is there for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts import check_docker

GOOD = """
FROM python:3.12-slim AS build
USER root
COPY pyproject.toml \\
     LICENSE ./
RUN pip install '.[master]'
FROM python:3.12-slim
COPY --from=build /opt /opt
USER flexpie
# A comment
HEALTHCHECK --interval=10s \\
  CMD ["flexpie", "health", "127.0.0.1:50051"]
ENTRYPOINT ["flexpie-worker"]
"""
COMMAND = ["--host", "0.0.0.0", "--port", "50051"]
SERVICE: Mapping[str, Any] = {
    "build": {"context": "..", "dockerfile": "docker/worker.Dockerfile"},
    "command": COMMAND,
    "volumes": ["./cluster.yaml:/cluster.yaml:ro", "state:/state"],
}
DOCKERFILES = {Path("docker/worker.Dockerfile"): check_docker.parse_dockerfile(GOOD)}


@pytest.fixture(autouse=True)
def _fake_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Console scripts that take whatever they are given, but --bad."""

    def complaint(words: tuple[str, ...]) -> str | None:
        return "No such option: --bad" if "--bad" in words else None

    monkeypatch.setattr(check_docker, "console_scripts", lambda: frozenset({"flexpie", "flexpie-worker"}))
    monkeypatch.setattr(check_docker, "run_help", lambda *words: words)
    monkeypatch.setattr(check_docker, "complaint", complaint)


def test_a_good_dockerfile_has_no_problem() -> None:
    assert list(check_docker.check_dockerfile(check_docker.parse_dockerfile(GOOD))) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("LICENSE", "LICENCE", "COPY LICENCE: no such file"),
        ("LICENSE", "Makefile", "COPY Makefile: .dockerignore keeps it out"),
        (".[master]", ".[mister]", "pyproject.toml declares no extra 'mister'"),
        ("USER flexpie", "", "the image runs as root: end with USER and another user"),
        ("USER flexpie", "USER 0:0", "the image runs as root: end with USER and another user"),
        ("HEALTHCHECK", "LABEL", "no HEALTHCHECK"),
        ('"health"', '"--bad"', "HEALTHCHECK: `flexpie --bad 127.0.0.1:50051`: No such option: --bad"),
        ('"flexpie-worker"', '"sh"', "ENTRYPOINT 'sh' is no console script of pyproject.toml"),
    ],
)
def test_a_mistake_in_a_dockerfile_is_named(old: str, new: str, problem: str) -> None:
    file = check_docker.parse_dockerfile(GOOD.replace(old, new))
    assert list(check_docker.check_dockerfile(file)) == [problem]


def test_good_services_have_no_problem() -> None:
    assert list(check_docker.check_compose({"worker-1": SERVICE}, DOCKERFILES)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"build": {"context": ".", "dockerfile": "docker/worker.Dockerfile"}},
            "worker-1: the build context is not the root folder",
        ),
        (
            {"build": {"context": "..", "dockerfile": "docker/x.Dockerfile"}},
            "worker-1: no such Dockerfile: docker/x.Dockerfile",
        ),
        ({"command": ["--bad"]}, "worker-1: `flexpie-worker --bad`: No such option: --bad"),
        ({"volumes": ["./x.yaml:/x.yaml"]}, "worker-1: mounts ./x.yaml, which does not exist"),
    ],
)
def test_a_mistake_in_a_service_is_named(change: Mapping[str, Any], problem: str) -> None:
    services = {"worker-1": {**SERVICE, **change}}
    assert list(check_docker.check_compose(services, DOCKERFILES)) == [f"compose.yaml: {problem}"]


def test_cluster_and_services_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = tmp_path / "cluster.yaml"
    monkeypatch.setattr(check_docker, "CLUSTER_FILE", cluster)
    services = {"worker-1": SERVICE, "worker-2": SERVICE}

    cluster.write_text("devices:\n- {name: a, address: 'worker-1:50051'}\n- {name: b, address: 'worker-2:50051'}\n")
    assert list(check_docker.check_cluster(services, DOCKERFILES)) == []

    cluster.write_text("devices: [{name: a, address: 'worker-1:50052'}, {name: b, address: 'worker-2:50051'}]")
    assert list(check_docker.check_cluster(services, DOCKERFILES)) == [
        "cluster.yaml: no worker of compose.yaml listens at worker-1:50052",
        "cluster.yaml: the worker at worker-1:50051 is missing",
    ]

    cluster.write_text("devices: none")
    (problem,) = check_docker.check_cluster(services, DOCKERFILES)
    assert "expected a list" in problem
