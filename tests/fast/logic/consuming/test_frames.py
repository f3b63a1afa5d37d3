"""Deliveries are cut out of any stream, however it is split."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties, frame
from pika import spec as pika_spec

from actors.logic.consuming.frames import Delivery, DeliveryBuffer, Mute, Slicer, settle
from actors.logic.settlement.ledger import Flush

spec: Any = pika_spec


def delivery(
    tag: int, body: bytes = b"body", channel: int = 1, size: int = 4096, redelivered: bool = False
) -> list[bytes]:
    """The frames of a delivery as pika writes them, the body in frames of so many bytes."""
    method = spec.Basic.Deliver("tag", tag, redelivered, "ex", "key")
    properties: Any = BasicProperties(message_id=str(tag))
    return [
        frame.Method(channel, method).marshal(),
        frame.Header(channel, len(body), properties).marshal(),
        *(frame.Body(channel, body[i : i + size]).marshal() for i in range(0, len(body), size)),
    ]


def whole(*arguments: Any, **more: Any) -> bytes:
    return b"".join(delivery(*arguments, **more))


HEARTBEAT = frame.Heartbeat().marshal()
CANCEL_OK = frame.Method(1, spec.Basic.CancelOk("tag")).marshal()


def cut(chunks: list[bytes]) -> tuple[list[bytes], bytes, list[tuple[int, int]]]:
    """Deliveries of channel 1, what is left of the stream, and the flags."""
    slicer, buffer = Slicer(), DeliveryBuffer(1, "q", 1)
    slicer.sinks[1] = buffer
    found: list[bytes] = []
    flagged: list[tuple[int, int]] = []
    rest = b""
    for chunk in chunks:
        rest += slicer.feed(chunk)
        if (taken := buffer.take()) is not None:
            assert taken.first == len(found) + 1
            flagged += [(taken.first + index, count) for index, count in taken.flagged]
            ends: array[int] = array("I")
            ends.frombytes(taken.ends)
            assert ends[-1] == len(taken.blob)
            found += [taken.blob[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert not buffer.broken
    return found, rest, flagged


STREAM = [
    HEARTBEAT,
    whole(1),
    whole(2, b""),
    whole(3, b"x" * 300, size=100, redelivered=True),
    CANCEL_OK,
    whole(4, b"other", channel=2),
    HEARTBEAT,
    whole(4, b"z"),
]
WANTED = [STREAM[1], STREAM[2], STREAM[3], STREAM[7]]
REST = HEARTBEAT + CANCEL_OK + STREAM[5] + HEARTBEAT
ALL = b"".join(STREAM)


def test_a_stream_in_one_piece() -> None:
    assert cut([ALL]) == (WANTED, REST, [(3, 1)])


def test_a_stream_byte_by_byte() -> None:
    assert cut([ALL[i : i + 1] for i in range(len(ALL))]) == (WANTED, REST, [(3, 1)])


def test_a_stream_split_at_every_place() -> None:
    for place in range(len(ALL) + 1):
        assert cut([ALL[:place], ALL[place:]]) == (WANTED, REST, [(3, 1)]), place


@given(st.lists(st.integers(0, len(ALL)), max_size=8).map(sorted))
def test_a_stream_split_anywhere(places: list[int]) -> None:
    chunks = [ALL[a:b] for a, b in zip([0, *places], [*places, len(ALL)], strict=True)]
    assert cut(chunks) == (WANTED, REST, [(3, 1)])


def test_frames_of_other_channels_may_stand_between_those_of_a_delivery() -> None:
    mine, other = delivery(1, b"ab", size=1), delivery(1, b"cd", channel=2, size=1)
    mixed = [piece for pair in zip(mine, other, strict=True) for piece in pair]
    found, rest, _ = cut([b"".join([*mixed, HEARTBEAT])])
    assert found == [b"".join(mine)]
    assert rest == b"".join(other) + HEARTBEAT


def test_a_channel_that_closes_amid_a_delivery_tells_pika() -> None:
    close = frame.Method(1, spec.Channel.Close(406, "no", 0, 0)).marshal()
    assert cut([b"".join(delivery(1)[:2]) + close]) == ([], close, [])


def test_a_muted_channel_lets_methods_pass_and_drops_content() -> None:
    slicer = Slicer()
    slicer.sinks[1] = Mute()
    method, header, body = delivery(1)
    assert slicer.feed(method + header + body + CANCEL_OK) == method + CANCEL_OK


@pytest.mark.parametrize("data", [b"AMQP\0\0\x09\x01", b"HTTP/1.1 400 Bad Request\r\n"])
def test_what_is_no_frame_is_passed_on_at_once(data: bytes) -> None:
    assert Slicer().feed(data) == data


def test_a_frame_without_its_end_is_left_to_pika() -> None:
    broken = whole(1)[:-1] + b"\0"
    assert cut([broken])[1] == broken[-12:]


def test_a_gap_in_the_tags_breaks_the_intake() -> None:
    slicer, buffer = Slicer(), DeliveryBuffer(1, "q", 1)
    slicer.sinks[1] = buffer
    slicer.feed(whole(1) + whole(3))
    assert buffer.broken == "delivery tag 3 came where 2 was due"


def test_the_time_for_a_big_body_grows_with_its_size() -> None:
    raw = whole(1, bytes(32 * 1024 * 1024), size=131064)
    chunks = [raw[start : start + 4096] for start in range(0, len(raw), 4096)]
    assert cut(chunks)[0] == [raw]  # quadratic, it would not end


def test_a_delivery_is_read_part_by_part() -> None:
    for size in (1, 3, 4096):
        one = Delivery(whole(7, b"body", channel=9, size=size, redelivered=True))
        assert (one.consumer_tag, one.delivery_tag, one.redelivered) == ("tag", 7, True)
        assert (one.exchange, one.routing_key, one.body) == ("ex", "key", b"body")
        properties: Any = BasicProperties()
        properties.decode(one.properties)
        assert properties.message_id == "7"


def test_an_empty_body_is_empty() -> None:
    assert Delivery(whole(1, b"")).body == b""


def decoded(frames: bytes) -> list[tuple[str, int, object]]:
    found = []
    while frames:
        used, one = frame.decode_frame(frames)
        assert isinstance(one, frame.Method)
        method: Any = one.method
        assert one.channel_number == 5
        bit = method.multiple if isinstance(method, spec.Basic.Ack) else method.requeue
        found.append((method.NAME, method.delivery_tag, bit))
        frames = frames[used:]
    return found


def test_a_flush_gives_back_before_it_acknowledges_the_prefix() -> None:
    flush = Flush(5, ((1, 1), (5, 5), (8, 9)), failed=(2,), returned=(3,), rejected=(4, 12))
    assert decoded(settle(5, flush)) == [
        ("Basic.Reject", 2, True),
        ("Basic.Nack", 3, True),
        ("Basic.Reject", 4, False),
        ("Basic.Reject", 12, False),
        ("Basic.Ack", 5, True),
        ("Basic.Ack", 8, False),
        ("Basic.Ack", 9, False),
    ]


def test_a_flush_without_a_prefix_never_acknowledges_everything() -> None:
    assert decoded(settle(5, Flush(0, ((3, 3),)))) == [("Basic.Ack", 3, False)]
    assert settle(5, Flush()) == b""
