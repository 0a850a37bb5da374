"""The drift check tells each way in which stubs and .proto files can part."""

from __future__ import annotations

from scripts.generate_stubs import drift


def test_equal_stubs_do_not_drift() -> None:
    assert drift({"a_pb2.py": "1"}, {"a_pb2.py": "1"}) == []


def test_each_kind_of_drift_is_named() -> None:
    fresh = {"new_pb2.py": "1", "changed_pb2.py": "1"}
    committed = {"old_pb2.py": "1", "changed_pb2.py": "2"}
    assert drift(fresh, committed) == [
        "flexpie/wire/v1/new_pb2.py: missing",
        "flexpie/wire/v1/old_pb2.py: no .proto file makes it",
        "flexpie/wire/v1/changed_pb2.py: differs from its .proto file",
    ]
