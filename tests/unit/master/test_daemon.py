"""In which order a master starts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flexpie.master import daemon


def test_nobody_is_answered_before_the_models_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def step(name: str) -> Any:
        async def do(*_: object) -> None:
            done.append(name)

        return do

    master: Any = SimpleNamespace(
        start=step("models known"), stop=step("master stops"), state=SimpleNamespace(requests=())
    )
    server = SimpleNamespace(start=step("answers"), stop=step("server stops"))
    monkeypatch.setattr(daemon, "make_server", lambda *_: server)
    monkeypatch.setattr(daemon, "listen", lambda *_: "localhost:1")

    async def run() -> None:
        stop = asyncio.Event()
        stop.set()
        await daemon._run(master, daemon.DaemonOptions(), lambda address: done.append("announced"), stop)

    asyncio.run(run())
    assert done == ["models known", "answers", "announced", "master stops", "server stops"]
