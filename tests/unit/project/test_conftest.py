"""The rules of tests/conftest.py, seen from a run of pytest that loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _run_pytest(test: Path, source: str) -> subprocess.CompletedProcess[str]:
    test.write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "--rootdir",
        str(test.parent),
        str(test),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_leaking_test_fails_and_names_what_it_left(tmp_path: Path) -> None:
    run = _run_pytest(
        tmp_path / "test_leak.py",
        "import subprocess\n"
        "kept = []\n"
        "def test_leaks():\n"
        "    kept.append(subprocess.Popen(['sleep', '60']))\n"
        "def test_does_not_leak():\n"
        "    pass\n",
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout
    assert "test_leak.py::test_leaks left behind:" in run.stdout
    assert "sleep 60" in run.stdout
    assert "test_leak.py::test_does_not_leak left behind:" not in run.stdout


def test_a_wider_fixture_may_hold_things_while_it_lives(tmp_path: Path) -> None:
    run = _run_pytest(
        tmp_path / "test_shared.py",
        "import pytest, socket\n"
        "@pytest.fixture(scope='module')\n"
        "def server():\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        yield server\n"
        "clients = []\n"
        "@pytest.fixture(scope='module', autouse=True)\n"
        "def close_clients(server):\n"
        "    yield\n"
        "    for client in clients:\n"
        "        client.close()\n"
        "def test_connects(server):\n"
        "    clients.append(socket.create_connection(server.getsockname()))\n",
    )
    assert run.returncode == pytest.ExitCode.OK, run.stdout


@pytest.mark.parametrize("decorator", ["", "@pytest.mark.skip\n"])
def test_a_run_without_a_test_fails(tmp_path: Path, decorator: str) -> None:
    name = "test_skipped" if decorator else "no_test"
    run = _run_pytest(tmp_path / "test_none.py", f"import pytest\n{decorator}def {name}():\n    pass\n")
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, run.stdout
