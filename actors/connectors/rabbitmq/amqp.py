"""The parameters that pika needs for a broker, and the meaning of its errors."""

from __future__ import annotations

import json
import logging
import ssl as tls
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import Any

import pika
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow
from pika.channel import MAX_CHANNELS

from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.errors import Fault
from actors.logic.consuming.frames import Slicer
from actors.logic.consuming.routing import IS_A_STREAM

#: Bytes asked of the socket at once, and in one turn, unless more are expected: with 120-byte
#: bodies a message costs 3.7 µs of CPU, with pika's own 4 KiB 5.4, and with 256 KiB 4.3.
READ_SIZE = 128 * 1024

#: Bytes that are sent in one write, of what is published together.
WRITE_SIZE = 256 * 1024

#: Milliseconds for which written data may stay unacknowledged by the peer's kernel: a dead
#: link is seen in this time, where heartbeats alone take twice theirs and ten seconds.
USER_TIMEOUT = 15_000

#: Reply codes that time does not heal: credentials, permissions, vhosts.
REFUSALS = (403, 530)

#: How a consumer says that it is for any queue but a stream: with the priority that each has
#: unasked, and no consumer of a stream may have.
NO_STREAM = {"x-priority": 0}
_OF_A_STREAM = "of queue type rabbit_stream_queue"

# What pika logs at ERROR, tracebacks included, is what its owner reports in one line.
logging.getLogger("pika").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an AMQP connection, as `PipelinePlan.settings` has them."""

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    ssl: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    heartbeat: int | None = 10  #: seconds
    name: str | None = None
    connection_timeout: float = 10.0  #: seconds

    @classmethod
    def parse(cls, text: str) -> Settings:
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in json.loads(text).items() if key in known})

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.vhost.lstrip('/')}"

    def parameters(self, purpose: str) -> pika.ConnectionParameters:
        """Raises OSError (`ssl.SSLError` is one) where a file of TLS cannot be used."""
        parameters = pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
            heartbeat=10 if self.heartbeat is None else self.heartbeat,
            socket_timeout=self.connection_timeout,
            stack_timeout=self.connection_timeout,
            client_properties={"connection_name": f"{self.name or 'callboard'} ({purpose})"},
            tcp_options={"TCP_USER_TIMEOUT": USER_TIMEOUT},
        )
        if self.ssl:
            parameters.ssl_options = pika.SSLOptions(self._context(), self.host)
        return parameters

    def _context(self) -> tls.SSLContext:
        context = tls.create_default_context(cafile=self.ca_file)
        context.minimum_version = tls.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = tls.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        return context


#: Versions of pika whose read path is known to be what `Link` cuts into.
PROVEN = {"1.4.4"}

_SelectConnection: Any = pika.SelectConnection  # it is untyped where it matters here


class Link(_SelectConnection):  # type: ignore[misc]
    """One connection to a broker, its deliveries cut out before pika decodes them.

    `opened()` or `lost(cause, fault)` is called once the outcome is known, `lost` also
    when it ends later; after `drop` neither is. With a pika that is not `PROVEN` nothing is
    cut out: deliveries come by pika's own path.
    """

    slices = version("pika") in PROVEN

    def __init__(
        self,
        settings: Settings,
        purpose: str,
        loop: IOLoop,
        opened: Callable[[], None],
        lost: Callable[[str, Fault], None],
    ) -> None:
        self.slicer = Slicer()
        self.blocked = ""  #: why the broker takes no publishing, while it does not
        self._settings = settings
        self._loop = loop
        self._is_held = False  # what is sent goes out later, together
        self._held: list[bytes] = []
        self._held_size = 0
        self._asking: deque[Callable[[Any], None]] = deque()  # wait for a channel
        self._lost = lost
        self._ended: BaseException | None = None
        super().__init__(
            settings.parameters(purpose),
            on_open_callback=lambda _: opened(),
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
            custom_ioloop=loop,
        )
        self.add_on_connection_blocked_callback(self._on_blocked)
        self.add_on_connection_unblocked_callback(self._on_unblocked)

    @property
    def broker(self) -> dict[str, Any]:
        """What the broker says of itself, once it has."""
        return self.server_properties or {}

    @property
    def peer(self) -> str:
        about = self.broker
        return f"{about.get('product', 'AMQP')} {about.get('version', '')}".strip()

    @property
    def place(self) -> str:
        """For people: host, port and vhost."""
        return str(self._settings)

    @property
    def reply_code(self) -> int:
        """With which the broker closed the connection; 0: it did not."""
        error = root(self._ended) if self._ended else None
        return (
            int(error.reply_code) if isinstance(error, exceptions.ConnectionClosedByBroker) else 0
        )

    @property
    def frame_max(self) -> int:
        return int(self.params.frame_max)

    @property
    def channel_max(self) -> int:
        """How many channels the broker allows here."""
        return int(self.params.channel_max) or MAX_CHANNELS

    def briefly(self, opened: Callable[[Any], None]) -> None:
        """Open a channel that is closed again soon; where all are taken, once one is free."""
        self._asking.append(opened)
        self._open_next()

    def _open_next(self) -> None:
        while self._asking and self.is_open:
            try:
                self.channel(on_open_callback=self._asking[0])
            except exceptions.NoFreeChannels:
                return
            self._asking.popleft()

    def _on_channel_cleanup(self, channel: Any) -> None:
        super()._on_channel_cleanup(channel)
        if self._asking:
            self._loop.add_callback(self._open_next)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Has what is sent within go out in one write, or one for each `WRITE_SIZE`."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self._send_held()

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        # pika makes a system call for each frame, and a message has three.
        size = sum(map(len, marshaled_frames))
        if size >= WRITE_SIZE:
            self._send_held()
            super()._output_marshaled_frames(marshaled_frames)
            return
        self._held += marshaled_frames
        self._held_size += size
        if not self._is_held or self._held_size >= WRITE_SIZE:
            self._send_held()

    def _send_held(self) -> None:
        if self._held:
            frames, self._held, self._held_size = self._held, [], 0
            super()._output_marshaled_frames([b"".join(frames)])

    def write(self, frames: bytes) -> None:
        """Send frames of our own making, in one write."""
        self._output_marshaled_frames([frames])

    def leave(self) -> None:
        """Close in order, as far as the loop is still turned; nothing is reported any more."""
        if self.is_open:
            self._lost = _nobody
            self.close()
        else:
            self.drop()

    def drop(self) -> None:
        """Let go at once, whatever the state; two turns of the loop later all is closed."""
        self._lost = _nobody
        if not (self.is_closed or self._ended):
            self._terminate_stream(exceptions.StreamLostError("dropped"))

    @property
    def socket(self) -> Any:
        """What is read from; None once the connection is gone."""
        return getattr(self._transport, "_sock", None)

    def expect(self, size: int) -> None:
        """Have a turn read so many bytes, or `READ_SIZE` where that is more."""
        transport, size = self._transport, max(READ_SIZE, size)
        if transport is not None:
            transport._MAX_RECV_BYTES = transport._MAX_CONSUME_BYTES = size

    def _proto_connection_made(self, transport: Any) -> None:
        super()._proto_connection_made(transport)
        self.expect(READ_SIZE)

    def _on_data_available(self, data_in: bytes) -> None:
        if not self.slices:
            super()._on_data_available(data_in)
            return
        rest = self.slicer.feed(data_in)
        self.bytes_received += len(data_in) - len(rest)  # the heartbeat checker reads it
        if rest:
            super()._on_data_available(rest)

    def _on_stream_terminated(self, error: Exception | None) -> None:
        # pika replaces what the broker said by what is "probable", as text.
        self._ended = error or self._error
        super()._on_stream_terminated(error)

    def _on_end(self, _: Any, error: BaseException) -> None:
        lost, self._lost = self._lost, _nobody
        if isinstance(error, exceptions.IncompatibleProtocolError):
            lost(f"{self._settings}: does not speak AMQP 0-9-1", Fault.UNREACHABLE)
        else:
            lost(*explain(self._ended or error, self._settings))

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = frame.method.reason or "no reason given"

    def _on_unblocked(self, _: Any, __: Any) -> None:
        self.blocked = ""


def _nobody(cause: str, fault: Fault) -> None:
    """Hears of a loss that is no news."""


def explain(error: BaseException, settings: Settings) -> tuple[str, Fault]:
    """What to tell people of a failure, in one line without secrets, and whose fault it is."""
    error = root(error)
    fault = Fault.UNREACHABLE
    if isinstance(error, exceptions.ConnectionClosed):
        text = f"{error.reply_code} {error.reply_text}"
        if error.reply_code in REFUSALS:
            fault = Fault.REFUSED
    elif isinstance(error, tls.SSLCertVerificationError):
        text = f"TLS: {error.verify_message or error}"
        fault = Fault.REFUSED
    elif isinstance(error, tls.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        text = "what answers does not speak TLS: amqp://, or another port?"
    else:
        text = str(error) or repr(error)
    return f"{settings}: {' '.join(text.split())}", fault


def explain_channel(reason: Any) -> tuple[str, Fault]:
    """The same of what ended a channel."""
    code = getattr(reason, "reply_code", 0)
    text = f"{code} {reason.reply_text}" if code else str(reason) or repr(reason)
    if code == 404:
        return text, Fault.MISSING
    if code == 406 and _OF_A_STREAM in text:
        return IS_A_STREAM, Fault.REFUSED
    return text, Fault.REFUSED if code in REFUSALS else Fault.UNREACHABLE


def root(error: BaseException) -> BaseException:
    """The error that all the others were made of: pika wraps, and some wrappers have no text."""
    while True:
        if isinstance(error, workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, workflow.AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        else:
            return error
