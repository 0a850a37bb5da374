"""Signals around a testbed."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from flexpie.testbed.signals import TerminationGuard, deferred


def test_a_signal_within_the_block_counts_at_its_end() -> None:
    reached = []

    def work() -> None:
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_ends_the_process_in_order_while_it_is_guarded() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    guard = TerminationGuard()
    try:
        guard.install()
        with pytest.raises(SystemExit) as raised:
            os.kill(os.getpid(), signal.SIGTERM)
        assert raised.value.code == 128 + signal.SIGTERM
        guard.uninstall()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_somebody_else_stays() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        guard = TerminationGuard()
        guard.install()
        assert signal.getsignal(signal.SIGTERM) is mine
        guard.uninstall()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_leave_signals_alone() -> None:
    found: list[object] = []

    def work() -> None:
        TerminationGuard().install()
        with deferred():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
