from __future__ import annotations

from flexpie.core.exchange import Copy
from flexpie.core.messages import Message, in_receiving_order, message_rounds
from flexpie.core.program import MASTER
from flexpie.core.region import Region

STAR = ((1, 0, 2), (2, 0, 1), (1, 0, 3), (3, 0, 1), (2, 0, 3), (3, 0, 2))
RING = ((0, 1, 2), (1, 2, 3), (2, 3, 0), (3, 0, 1))


def rows(start: int, stop: int) -> Region:
    return Region.of((start, stop))


def box(start: int, stop: int) -> tuple[str, Region]:
    return "x", rows(start, stop)


def copy(source: int, destination: int, start: int, stop: int) -> Copy:
    return Copy("x", source, destination, rows(start, stop))


def test_without_relays_there_is_one_round_and_one_message_for_each_pair() -> None:
    copies = [copy(0, 1, 0, 2), copy(0, 1, 4, 6), copy(1, 0, 2, 4), copy(MASTER, 1, 6, 8)]
    assert message_rounds(copies, (), 2) == [
        [
            Message(MASTER, 1, (box(6, 8),)),
            Message(0, 1, (box(0, 2), box(4, 6))),
            Message(1, 0, (box(2, 4),)),
        ]
    ]
    assert message_rounds([], STAR, 4) == []


def test_nobody_sends_first_to_whom_another_one_sends_first() -> None:
    pairs = [(source, destination) for source in range(3) for destination in range(3) if source != destination]
    (messages,) = message_rounds([copy(*pair, 0, 1) for pair in pairs], (), 3)
    assert [(item.source, item.destination) for item in messages] == [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)]
    received = [(item.destination, item.source) for item in in_receiving_order(messages, 3)]
    assert received == [(0, 2), (0, 1), (1, 0), (1, 2), (2, 1), (2, 0)]


def test_what_several_devices_need_passes_the_center_once() -> None:
    rounds = message_rounds([copy(1, 0, 0, 4), copy(1, 2, 2, 6), copy(1, 3, 5, 8)], STAR, 4)
    assert rounds == [
        [Message(1, 0, wanted=(box(0, 4),), passing=(box(4, 6), box(6, 8)))],
        [Message(0, 2, (box(2, 6),)), Message(0, 3, (box(5, 8),))],
    ]


def test_the_center_collects_what_it_passes_on_to_one_device() -> None:
    rounds = message_rounds([copy(1, 3, 0, 2), copy(2, 3, 2, 4), copy(0, 3, 4, 6)], STAR, 4)
    assert rounds == [
        [Message(0, 3, (box(4, 6),)), Message(1, 0, (), (box(0, 2),)), Message(2, 0, (), (box(2, 4),))],
        [Message(0, 3, (box(0, 2), box(2, 4)))],
    ]


def test_a_longer_way_takes_more_rounds() -> None:
    rounds = message_rounds([copy(0, 3, 0, 2), copy(0, 1, 0, 1)], ((0, 1, 2, 3), (0, 1, 2)), 6)
    assert rounds == [
        [Message(0, 1, (box(0, 1),), (box(1, 2),))],
        [Message(1, 2, (), (box(0, 2),))],
        [Message(2, 3, (box(0, 2),))],
    ]
    assert rounds[0][0].boxes == (box(0, 1), box(1, 2))


def test_around_a_ring_everybody_sends_in_every_round() -> None:
    rounds = message_rounds([copy(stops[0], stops[-1], 0, 1) for stops in RING], RING, 4)
    assert [[(item.source, item.destination) for item in messages] for messages in rounds] == [
        [(0, 1), (1, 2), (2, 3), (3, 0)]
    ] * 2
