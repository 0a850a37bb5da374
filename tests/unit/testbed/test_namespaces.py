"""Namespaces where the kernel gives none."""

from __future__ import annotations

import pytest
from pyroute2 import netns

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import namespaces


def test_a_kernel_that_gives_no_namespace_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, pid: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(netns, "attach", refuse)
    with pytest.raises(
        FlexPieError, match=r"gives no network namespace: Operation not permitted.*--privileged"
    ) as raised:
        namespaces.create("fp-none-d0")
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
