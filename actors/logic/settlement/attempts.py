"""The number of hand-outs of a broker's message before this one, as far as its headers prove it.

Anybody can write a header. Workers of one queue need not share a secret, a password or a user:
a count is sealed with a digest of what it belongs to. It holds for this very message on this
queue alone. Who forges one on purpose spends the retries of a message of their own.
"""

from __future__ import annotations

from hashlib import blake2b

from actors.logic.consuming.frames import Delivery
from actors.logic.messages.properties import entries, split

#: No count is higher: copies, records and delays take it.
ATTEMPTS_MAX = 1_000_000

_ATTEMPTS, _SEAL = "x-callboard-attempts", "x-callboard-seal"
_COUNT, _SEALED = _ATTEMPTS.encode(), _SEAL.encode()
_BROKERS, _ACQUIRED = b"x-delivery-count", b"x-acquired-count"

#: The types of whole numbers in a table; a quorum queue writes its count as the last.
_INTEGERS = b"bsIl"
_LONG = _INTEGERS[-1:]


def told(attempts: int) -> dict[str, str | int]:
    """The header of a copy that tells people how often its message was handed out."""
    return {_ATTEMPTS: _bounded(attempts)}


def proven(attempts: int, queue: str, message_id: bytes, body: bytes) -> dict[str, str | int]:
    """The headers of a copy that comes back to `queue`: `counted` believes them."""
    attempts = _bounded(attempts)
    return {_ATTEMPTS: attempts, _SEAL: _seal(attempts, queue, message_id, body)}


def may_count(content: bytes) -> bool:
    """Whether there may be a count in the headers of any delivery of these."""
    return _SEALED in content or _BROKERS in content


def counted(delivery: Delivery, queue: str) -> int:
    """Hand-outs before this delivery that Callboard or the queue itself counted; 0: none."""
    properties = delivery.properties
    if not may_count(properties):
        return 0
    try:
        fields = split(properties)
        headers = dict(entries(fields.get("headers", bytes(4))))
    except ValueError:
        return 0
    # A first delivery has no count of its broker's: what it carries is its publisher's.
    by_broker = _number(headers.get(_BROKERS), _LONG) if delivery.redelivered else 0
    return max(by_broker, _proven(headers, fields.get("message_id", b"")[1:], queue, delivery))


def returned(delivery: Delivery) -> int:
    """How often its quorum queue counts that it got a message back; 0: it does not say.

    From 4.3 on a queue also counts how often a message was acquired, which is never less: a
    greater count is the publisher's, which the queue has not replaced yet.
    """
    if not delivery.redelivered:
        return 0
    try:
        headers = dict(entries(split(delivery.properties).get("headers", bytes(4))))
    except ValueError:
        return 0
    count = _number(headers.get(_BROKERS), _LONG)
    return min(count, _number(headers[_ACQUIRED], _LONG)) if _ACQUIRED in headers else count


def _proven(headers: dict[bytes, bytes], message_id: bytes, queue: str, delivery: Delivery) -> int:
    if _SEALED not in headers:
        return 0
    attempts = _number(headers.get(_COUNT), _INTEGERS)
    seal = _seal(attempts, queue, message_id, delivery.body).encode()
    return attempts if headers[_SEALED][5:] == seal else 0  # behind its type and its length


def _number(value: bytes | None, types: bytes) -> int:
    if value is None or value[0] not in types:
        return 0
    return _bounded(int.from_bytes(value[1:], "big", signed=True))


def _bounded(attempts: int) -> int:
    return min(max(0, attempts), ATTEMPTS_MAX)


def _seal(attempts: int, queue: str, message_id: bytes, body: bytes) -> str:
    name = queue.encode("utf-8", "surrogatepass")
    digest = blake2b(digest_size=16, person=b"callboard retry")
    for part in (b"%d" % attempts, name, message_id):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(body)
    return digest.hexdigest()
