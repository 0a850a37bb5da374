"""When memory and open files count as flat."""

from __future__ import annotations

from bench.soak import Sample, growths


def _samples(daemon: str, memory: list[int], files: list[int]) -> list[Sample]:
    return [Sample(daemon, float(at), *pair, 9) for at, pair in enumerate(zip(memory, files, strict=True))]


def test_what_grows_while_it_warms_up_is_flat_and_what_grows_later_is_not() -> None:
    warm = [10, 50, 90, 98] + [100] * 15 + [101]
    found = growths([
        *_samples("warming", warm, [20] * 20),
        *_samples("leaking", [100 + at for at in range(20)], [20] * 20),
        *_samples("opening", [100] * 20, [20] * 10 + [21] * 10),
    ])  # fmt: skip
    assert [(growth.daemon, growth.flat) for growth in found] == [
        ("warming", True), ("leaking", False), ("opening", False),
    ]  # fmt: skip
    assert found[0].memory_bytes == (100.0, 100.0)
    assert found[2].files == (20.0, 21.0)
