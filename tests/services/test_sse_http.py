"""What is asked of a server, and what its answers come to: against a real HTTP server."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import subprocess
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from actors.connectors.sse.http import LONGEST_HOLD, retry_after
from actors.errors import Fault
from actors.logic.settlement.ledger import Flush
from actors.roles.port import Consuming, Opened, QueueLost
from tests.support.sse_driver import Driver
from tests.support.sse_server import STREAM, Answer, SSEServer, Wire, redirect, status, stream

EVENT = "id: 1\ndata: a\n\n"


def test_a_stream_is_asked_for_as_the_standard_says(tmp_path: Path) -> None:
    with SSEServer(stream(EVENT)) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("stream/of?x=1", 1, 10)
        driver.wait_for_events(1)
    (request,) = server.requests
    assert request.path == "/stream/of?x=1"
    assert request.headers["accept"] == STREAM
    assert request.headers["cache-control"] == "no-cache"
    assert request.headers["accept-encoding"] == "identity"
    assert "last-event-id" not in request.headers
    assert driver.all(Opened)[0].peer == "127.0.0.1"
    assert driver.all(Consuming) == [Consuming("stream/of?x=1", 1)]


@pytest.mark.parametrize(
    ("base", "queue", "path"),
    [
        ("", "a", "/a"),
        ("v1/", "a", "/v1/a"),
        ("v1/x", "a", "/v1/x/a"),
        ("v1/", "/a", "/v1/a"),
        ("base/path?x=1", "/a", "/base/path/a?x=1"),
        ("base/path?x=1", "a?y=2", "/base/path/a?x=1&y=2"),
        ("base/path?x=1", "/", "/base/path?x=1"),
    ],
)
def test_a_queue_is_joined_to_the_url(tmp_path: Path, base: str, queue: str, path: str) -> None:
    """B50, but that nothing of the URL gets lost."""
    with SSEServer(stream(EVENT)) as server, Driver(server.url + base, tmp_path) as driver:
        driver.client.consume(queue, 1, 10)
        driver.wait_for(Consuming)
    assert server.requests[0].path == path


def test_credentials_and_headers_are_sent(tmp_path: Path) -> None:
    settings = {
        "user": "é:",
        "password": "p",
        "headers": {"X-Key": "k", "Accept": STREAM + ", */*"},
    }
    paths = {"/b": {"headers": {"x-key": "of the route"}}}
    with (
        SSEServer(stream(EVENT)) as server,
        Driver(server.url, tmp_path, paths=paths, **settings) as driver,
    ):
        for count, queue in enumerate(("/a", "/b"), 1):
            driver.client.consume(queue, 1, 10)
            driver.wait_for(Consuming, count)
    first, second = server.requests
    expected = base64.b64encode("é::p".encode()).decode()
    assert first.headers["authorization"] == f"Basic {expected}"
    assert first.headers["accept"] == STREAM + ", */*"
    assert (first.headers["x-key"], second.headers["x-key"]) == ("k", "of the route")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(tmp_path: Path, code: int) -> None:
    answers = redirect(code, "/elsewhere"), stream(EVENT)
    with (
        SSEServer(*answers) as server,
        Driver(server.url, tmp_path, user="u", password="p") as driver,
    ):
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
    assert [request.path for request in server.requests] == ["/x", "/elsewhere"]
    assert "authorization" in server.requests[1].headers


def test_another_origin_gets_no_secrets(tmp_path: Path) -> None:
    secrets = {"user": "u", "password": "p", "headers": {"X-Api-Key": "k", "Cookie": "c=1"}}
    with (
        SSEServer(stream(EVENT)) as other,
        SSEServer(redirect(307, other.url)) as server,
        Driver(server.url, tmp_path, last_event_id="7", **secrets) as driver,
    ):
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
    sent = other.requests[0].headers
    assert not {"authorization", "x-api-key", "cookie"} & set(sent)
    assert (sent["accept"], sent["last-event-id"]) == (STREAM, "7")


def html(wire: Wire) -> None:
    wire.head(content_type="text/html; charset=utf-8")
    wire.write(b"<html>\n\ndata: a\n\n</html>")


def untyped(wire: Wire) -> None:
    wire.head()
    wire.write(b"data: a\n\n")


def compressed(wire: Wire) -> None:
    wire.head(content_type=STREAM, content_encoding="gzip")


def not_http(wire: Wire) -> None:
    wire.write(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize(
    ("answer", "cause", "fault"),
    [
        (html, "the content type is 'text/html; charset=utf-8', not", Fault.REFUSED),
        (untyped, "the content type is nothing, not text/event-stream", Fault.REFUSED),
        (compressed, "the stream is compressed ('gzip')", Fault.REFUSED),
        (status("401 Unauthorized"), "answered 401 Unauthorized", Fault.REFUSED),
        (status("403 Forbidden"), "answered 403 Forbidden", Fault.REFUSED),
        (status("400 Bad Request"), "answered 400", Fault.REFUSED),
        (status("206 Partial", content_type=STREAM), "answered 206", Fault.REFUSED),
        (status("404 Not Found"), "answered 404 Not Found", Fault.MISSING),
        (status("410 Gone"), "answered 410 Gone", Fault.MISSING),
        (status("500 Oops"), "answered 500 Oops", Fault.UNREACHABLE),
        (status("503 Busy", b"data: a\n\n", content_type=STREAM), "503 Busy", Fault.UNREACHABLE),
        (status("429 Slow down"), "answered 429", Fault.UNREACHABLE),
        (redirect(302, "/x"), "more than 5 redirects", Fault.REFUSED),
        (redirect(302, ""), "answered 302 without a location", Fault.REFUSED),
        (redirect(301, "ftp://127.0.0.1/"), "location that is not HTTP", Fault.REFUSED),
        (redirect(301, "http://a:b/"), "Invalid URL in location", Fault.UNREACHABLE),
        (not_http, "RemoteProtocolError", Fault.UNREACHABLE),
        (lambda wire: wire.reset(), "Re", Fault.UNREACHABLE),
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_no_stream_is_told_with_its_cause(
    tmp_path: Path, answer: Answer, cause: str, fault: Fault
) -> None:
    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        lost = driver.wait_for(QueueLost)
    assert cause in lost.cause
    assert (lost.queue, lost.epoch, lost.fault) == ("/x", 1, fault)
    assert not driver.all(Consuming)
    assert not driver.records()


def test_a_port_where_nobody_listens_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Driver(f"http://127.0.0.1:{port}/", tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        lost = driver.wait_for(QueueLost)
    assert lost.fault == Fault.UNREACHABLE
    assert "ConnectError" in lost.cause


def certificate(directory: Path, address: str) -> tuple[ssl.SSLContext, Path]:
    key, cert = directory / "key.pem", directory / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "1", "-subj", "/CN=test",
               "-addext", f"subjectAltName=IP:{address}",
               "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


def test_a_certificate_that_is_trusted_lets_the_stream_in(tmp_path: Path) -> None:
    context, cert = certificate(tmp_path, "127.0.0.1")
    with SSEServer(stream(EVENT), tls=context) as server:
        for number, verify in enumerate((str(cert), False)):
            with Driver(server.url, tmp_path / str(number), verify=verify) as driver:
                driver.client.consume("/x", 1, 10)
                driver.wait_for_events(1)


@pytest.mark.parametrize(
    ("address", "trusted", "cause"),
    [("127.0.0.1", False, "self"), ("127.0.0.2", True, "IP address mismatch")],
)
def test_a_certificate_that_cannot_be_verified_is_refused(
    tmp_path: Path, address: str, trusted: bool, cause: str
) -> None:
    context, cert = certificate(tmp_path, address)
    with (
        SSEServer(stream(EVENT), tls=context) as server,
        Driver(server.url, tmp_path, verify=str(cert) if trusted else True) as driver,
    ):
        driver.client.consume("/x", 1, 10)
        lost = driver.wait_for(QueueLost)
    assert lost.fault == Fault.REFUSED
    assert lost.cause.startswith("certificate: ")
    assert cause in lost.cause


def test_204_ends_the_stream_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actors")
    answers = stream(EVENT, hold=False), status("204 No Content"), stream(EVENT)
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.until(lambda: "204" in caplog.text)
        driver.client.settle("/x", 1, Flush(failed=(1,)))
        driver.wait_for_events(2)
        driver.client.consume("/x", 2, 10)
        driver.wait_for(Consuming, 2)
        driver.wait_for_events(3)
    assert len(server.requests) == 2
    assert not driver.all(QueueLost)


@pytest.mark.parametrize("line", ["503 Unavailable", "429 Too Many Requests"])
def test_a_server_is_left_alone_for_as_long_as_it_says(tmp_path: Path, line: str) -> None:
    answers = status(line, retry_after="1"), stream(EVENT)
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        assert "to be asked again in 1 s" in driver.wait_for(QueueLost).cause
        driver.client.consume("/x", 2, 10)
        driver.wait_for(Consuming)
    first, second = server.times
    assert second - first >= 1.0


def test_retry_of_the_stream_is_honoured(tmp_path: Path) -> None:
    answers = stream("retry: 700\n\n", hold=False), stream(EVENT)
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for(QueueLost)
        driver.client.consume("/x", 2, 10)
        driver.wait_for_events(1)
    first, second = server.times
    assert second - first >= 0.7


NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 5000, LONGEST_HOLD),
        (format_datetime(datetime(2026, 1, 1, 0, 1, tzinfo=UTC), usegmt=True), 60.0),
        (format_datetime(datetime(2025, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("", 0.0), ("-5", 0.0), ("soon", 0.0), ("٣", 0.0), ("1.5", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds
