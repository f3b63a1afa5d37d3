"""The server for probes, as strangers find it."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus

import pytest

from actors.errors import ConfigurationError
from actors.ops import health_server as probes
from actors.ops.health_server import Answer, ProbeServer
from tests.support.broker import free_port

BIG = b"x" * 4_000_000


def respond(path: str) -> Answer | None:
    if path == "/big":
        return Answer(HTTPStatus.OK, BIG)
    return Answer(HTTPStatus.OK, b"ok\n") if path == "/livez" else None


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    server = ProbeServer(f"127.0.0.1:{port}", respond)
    yield port
    server.close()


def ask(port: int, method: str = "GET", path: str = "/livez") -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return answer


def say(port: int, data: bytes) -> bytes:
    """What comes back, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        return all_of(client)


def all_of(client: socket.socket) -> bytes:
    """What is received until the other side ends it, in whatever way."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return received


def test_a_path_is_answered_to_get_and_head_and_the_program_is_not_named(port: int) -> None:
    status, body, headers = ask(port)
    assert (status, body, headers["Content-Length"]) == (200, b"ok\n", "3")
    assert "Server" not in headers
    status, body, headers = ask(port, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "3")
    assert ask(port, path="/livez?verbose=1")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/livez/../etc", 404), ("POST", "/livez", 405), ("PUT", "/x", 405)],
)
def test_all_else_is_refused(port: int, method: str, path: str, status: int) -> None:
    assert ask(port, method, path)[0] == status


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\r\n\r\n", b"HTTP/1.1 400"),
        (b"\x80\x04\x95pickle\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /livez\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /livez HTTP/2.0\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * 20_000, b"HTTP/1.1 431"),
    ],
)
def test_what_is_no_request_is_answered_as_one(port: int, request_: bytes, answer: bytes) -> None:
    assert say(port, request_).startswith(answer)


def test_ten_mebibytes_of_header_are_not_read(port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
        pytest.raises(ConnectionError),
    ):
        client.sendall(b"a" * 10_485_760)
    assert ask(port)[0] == 200


def test_who_is_slow_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(b"GET /livez HT")
        begin = time.monotonic()
        assert slow.recv(1) == b"", "it was closed, and not answered"
        assert time.monotonic() - begin < 3.0


def test_who_does_not_read_its_answer_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SECONDS", 0.3)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert ask(port)[0] == 200
        waited = threading.Event().wait(0.6)  # it is that it does not read which is tested
        assert not waited
        deaf.settimeout(10)
        assert len(all_of(deaf)) < len(BIG)


def test_a_thousand_idle_sockets_keep_nobody_out(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        begin = time.monotonic()
        assert ask(port)[0] == 200
        assert time.monotonic() - begin < probes.SECONDS / 2, "did not wait for them to time out"
        ours = [t for t in threading.enumerate() if t.name == "health"]
        assert len(ours) == 1, "a bounded number of threads"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:{port}", "Address already in use"),
        ("192.0.2.1:8080", "Cannot assign requested address"),
        ("no.such.host.invalid:8080", "not known|resolution|associated"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_clear_line(
    port: int, address: str, problem: str
) -> None:
    address = address.format(port=port)
    with pytest.raises(ConfigurationError, match=f"^--health {address}: .*({problem})"):
        ProbeServer(address, respond)


def test_an_address_may_be_of_ipv6() -> None:
    port = free_port()
    server = ProbeServer(f"[::1]:{port}", respond)
    try:
        with socket.create_connection(("::1", port), timeout=10) as client:
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        server.close()


def test_after_the_end_nobody_answers(port: int) -> None:
    other = free_port()
    ProbeServer(f"127.0.0.1:{other}", respond).close()
    with pytest.raises(ConnectionRefusedError):
        ask(other)
