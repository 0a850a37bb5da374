"""Certificates: what is issued, what is refused, and what is seen in a file before anything connects."""

from __future__ import annotations

import logging
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security import certificates
from flexpie.security.authority import DAYS, create_authority, issue
from flexpie.security.certificates import load_credentials, read_certificate
from flexpie.security.credentials import CA_FILE, CERTIFICATE_FILE, KEY_FILE, TlsFiles, expiry_warning, now
from flexpie.security.roles import Role

HOUR = timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    folder = tmp_path / "certs"
    create_authority(folder)
    return folder


def test_a_certificate_tells_name_role_addresses_and_end(authority: Path) -> None:
    folder = issue(authority, Role.WORKER, "pi-0", ["10.0.0.5", "pi-0.local", "fd00::5", "10.0.0.5"])
    assert folder == authority / "worker-pi-0"
    found = read_certificate(folder / CERTIFICATE_FILE)
    assert (found.name, found.role, found.is_authority) == ("pi-0", Role.WORKER, False)
    assert set(found.addresses) == {"pi-0.local", "10.0.0.5", "fd00::5"}
    assert abs(found.expires - now() - timedelta(days=DAYS)) < HOUR
    assert found.valid_from < now() - 23 * HOUR
    assert load_credentials(folder, [Role.WORKER]).description == found
    assert read_certificate(authority / CA_FILE).is_authority


def test_a_master_is_always_reached_on_its_own_machine(authority: Path) -> None:
    folder = issue(authority, Role.MASTER, "m")
    assert read_certificate(folder / CERTIFICATE_FILE).addresses == ("localhost", "127.0.0.1")


def test_keys_are_for_their_owner_alone(authority: Path) -> None:
    folder = issue(authority, Role.CLIENT, "anna")
    for key in (authority / "ca.key", folder / KEY_FILE):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_overwritten(authority: Path) -> None:
    folder = issue(authority, Role.CLIENT, "anna")
    before = {path: path.read_bytes() for path in authority.rglob("*") if path.is_file()}
    with pytest.raises(FlexPieError, match="exists already"):
        create_authority(authority)
    with pytest.raises(FlexPieError, match="exists already"):
        issue(authority, Role.CLIENT, "anna")
    (folder / CERTIFICATE_FILE).unlink()
    with pytest.raises(FlexPieError, match="exists already"):
        issue(authority, Role.CLIENT, "anna")
    assert {path: path.read_bytes() for path in before if path.exists()} == {
        path: content for path, content in before.items() if path.name != CERTIFICATE_FILE or path.parent != folder
    }


@pytest.mark.parametrize(
    ("role", "name", "addresses", "text"),
    [
        (Role.WORKER, "pi-0", [], "needs the addresses"),
        (Role.CLIENT, "anna", ["10.0.0.5"], "Leave --address away"),
        (Role.WORKER, "../pi", ["10.0.0.5"], "is no name"),
        (Role.WORKER, "", ["10.0.0.5"], "is no name"),
        (Role.WORKER, "pi-0", ["10.0.0.5:50051"], "without a port"),
        (Role.WORKER, "pi-0", ["*"], "no host name"),
        (Role.WORKER, "pi-0", ["a b"], "no host name"),
    ],
)
def test_what_is_no_certificate_is_not_issued(
    authority: Path, role: Role, name: str, addresses: list[str], text: str
) -> None:
    with pytest.raises(FlexPieError, match=text) as refused:
        issue(authority, role, name, addresses)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert not [path for path in authority.iterdir() if path.is_dir()]


def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="There is no certificate authority"):
        issue(tmp_path, Role.CLIENT, "anna")


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    create_authority(tmp_path, days=10)
    folder = issue(tmp_path, Role.CLIENT, "anna", days=100)
    assert read_certificate(folder / CERTIFICATE_FILE).expires == read_certificate(tmp_path / CA_FILE).expires


def test_files_that_do_not_fit_together_are_refused(authority: Path, tmp_path: Path) -> None:
    anna, bert = (issue(authority, Role.CLIENT, name) for name in ("anna", "bert"))
    create_authority(tmp_path / "other")
    files = TlsFiles.in_folder(anna)
    with pytest.raises(FlexPieError, match="is not the key of"):
        load_credentials(TlsFiles(files.ca, files.certificate, bert / KEY_FILE))
    with pytest.raises(FlexPieError, match="was not issued by the authority"):
        load_credentials(TlsFiles(tmp_path / "other" / CA_FILE, files.certificate, files.key))
    with pytest.raises(FlexPieError, match="holds no certificate"):
        load_credentials(TlsFiles(files.ca, files.key, files.key))
    with pytest.raises(FlexPieError, match="holds no private key") as refused:
        load_credentials(TlsFiles(files.ca, files.certificate, files.certificate))
    assert "BEGIN" not in str(refused.value)
    with pytest.raises(FlexPieError, match="cannot be read: No such file"):
        load_credentials(tmp_path / "nowhere")


def test_another_role_is_refused(authority: Path) -> None:
    folder = issue(authority, Role.CLIENT, "anna")
    with pytest.raises(FlexPieError, match="has the role client; this needs the role worker"):
        load_credentials(folder, [Role.WORKER])


def test_validity_is_told_in_time(
    authority: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = issue(authority, Role.CLIENT, "anna", days=100)
    load_credentials(folder)
    assert not caplog.messages
    begin = now()
    monkeypatch.setattr(certificates, "now", lambda: begin + timedelta(days=71))
    with caplog.at_level(logging.WARNING):
        load_credentials(folder)
    assert "expires in 28 days" in caplog.text
    for days, text in ((101, "expired on"), (-2, "is not valid before")):
        monkeypatch.setattr(certificates, "now", lambda days=days: begin + timedelta(days=days))
        with pytest.raises(FlexPieError, match=text):
            load_credentials(folder)


def test_a_key_that_others_can_read_is_worth_a_word(authority: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = issue(authority, Role.CLIENT, "anna")
    (folder / KEY_FILE).chmod(0o644)
    load_credentials(folder)
    assert "others on this machine can read the private key" in caplog.text


def test_the_end_is_counted_in_days() -> None:
    begin = now()
    assert expiry_warning(begin + timedelta(days=31), begin) == ""
    assert expiry_warning(begin + timedelta(days=2, hours=5), begin).startswith("expires in 2 days, on 2")
    assert expiry_warning(begin, begin).startswith("expired on 2")
