"""`flexpie certs` from the authority to the list of what was issued, and the options that take the result."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flexpie.cli.certs import certs
from flexpie.cli.tls_options import load_tls, tls_options
from flexpie.security import certificates
from flexpie.security.credentials import TlsFiles


def run(*words: str, expected: int = 0) -> str:
    result = CliRunner().invoke(certs, words)
    assert result.exit_code == expected, result.output
    return result.output


def test_from_the_authority_to_the_list(tmp_path: Path) -> None:
    folder = ["--dir", str(tmp_path / "certs")]
    run("init", *folder)
    run("issue", "worker", "--name", "pi-0", "--address", "10.0.0.5", "--address", "pi-0.local", *folder)
    run("issue", "client", *folder, "--output", str(tmp_path / "certs" / "anna"))
    listed = run("show", str(tmp_path / "certs"))
    assert "worker-pi-0/tls.crt  worker pi-0 at pi-0.local, 10.0.0.5, until 2" in listed
    assert "anna/tls.crt  client client, until 2" in listed
    assert len(listed.splitlines()) == 3
    found = json.loads(run("show", "--json", str(tmp_path / "certs" / "anna" / "tls.crt")))["certificates"]
    assert [(item["role"], item["name"], item["addresses"]) for item in found] == [("client", "client", [])]


def test_an_expired_certificate_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "--dir", str(tmp_path), "--days", "10")
    assert "expires in 9 days" in run("show", str(tmp_path))
    begin = certificates.read_certificate(tmp_path / "ca.crt").expires
    monkeypatch.setattr("flexpie.security.credentials.now", lambda: begin)
    assert "expired on" in run("show", str(tmp_path), expected=1)


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    folder = ["--dir", str(tmp_path / "certs")]
    assert "flexpie certs init" in run("issue", "client", "--dir", str(tmp_path), expected=3)
    run("init", *folder)
    assert "exists already" in run("init", *folder, expected=3)
    assert "--address" in run("issue", "worker", *folder, expected=3)


@click.command()
@tls_options
def ask(tls: TlsFiles | None) -> None:
    click.echo(repr(tls and [str(tls.ca), str(tls.certificate), str(tls.key)]))


@pytest.mark.parametrize(
    ("words", "environment", "files"),
    [
        ([], {}, None),
        (["--tls-dir", "d"], {}, ["d/ca.crt", "d/tls.crt", "d/tls.key"]),
        ([], {"FLEXPIE_TLS_DIR": "d"}, ["d/ca.crt", "d/tls.crt", "d/tls.key"]),
        (["--tls-key", "k", "--tls-dir", "d"], {}, ["d/ca.crt", "d/tls.crt", "k"]),
        (["--tls-ca", "a", "--tls-cert", "c", "--tls-key", "k"], {}, ["a", "c", "k"]),
        (["--tls-ca", "a"], {"FLEXPIE_TLS_CERT": "c", "FLEXPIE_TLS_KEY": "k"}, ["a", "c", "k"]),
    ],
)
def test_files_by_folder_part_and_environment(
    words: list[str], environment: dict[str, str], files: list[str] | None
) -> None:
    result = CliRunner().invoke(ask, words, env=environment)
    assert result.output.strip() == repr(files)


def test_half_of_the_files_is_a_mistake() -> None:
    result = CliRunner().invoke(ask, ["--tls-ca", "a", "--tls-key", "k"])
    assert result.exit_code == 2
    assert "--tls-cert" in result.output


def test_without_files_there_are_no_credentials() -> None:
    assert load_tls(None) is None
