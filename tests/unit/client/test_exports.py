"""`import flexpie` alone is light; what it exports comes when somebody asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flexpie
from flexpie.client import AsyncClient, Client
from flexpie.core.errors import ErrorCode, FlexPieError


def test_the_package_exports_its_clients_and_errors() -> None:
    exported = (flexpie.AsyncClient, flexpie.Client, flexpie.ErrorCode, flexpie.FlexPieError)
    assert exported == (AsyncClient, Client, ErrorCode, FlexPieError)
    with pytest.raises(AttributeError, match="'flexpie' has no attribute 'client_'"):
        _ = flexpie.client_


def test_errors_come_without_grpc() -> None:
    code = "import sys, flexpie; flexpie.FlexPieError; flexpie.ErrorCode; print('grpc' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "False\n"
