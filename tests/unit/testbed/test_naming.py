"""Names of one run."""

from __future__ import annotations

import pytest

from flexpie.testbed.naming import Names, new_run


def test_every_name_carries_the_run_and_is_short_enough_for_an_interface() -> None:
    run = new_run([])
    names = Names(run)
    namespaces = [names.hub, names.master, names.device(0), names.device(63)]
    assert all(run in name and len(name) <= 15 for name in namespaces)
    assert len(set(namespaces)) == len(namespaces)
    assert run in names.cgroup


def test_a_run_owns_its_own_namespaces_only() -> None:
    mine, other = Names("b2c3"), Names("b2c4")
    assert all(mine.owns(name) for name in (mine.hub, mine.master, mine.device(12)))
    assert not any(mine.owns(name) for name in (other.hub, other.device(0), "fp-b2c3-x", "fp-b2c3", "docker"))


def test_ids_in_use_are_not_given_again() -> None:
    given: set[str] = set()
    for _ in range(50):
        given.add(new_run(given))
    assert len(given) == 50


@pytest.mark.parametrize("run", ["", "../x", "b2c", "b2c3d", "B2C3"])
def test_other_texts_are_no_ids(run: str) -> None:
    with pytest.raises(ValueError, match="not the id of a run"):
        Names(run)
