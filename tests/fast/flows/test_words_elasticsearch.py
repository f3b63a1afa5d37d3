"""The words job against a server that answers as Elasticsearch's bulk API does."""

from __future__ import annotations

import base64
import json
import threading
from array import array
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any

import pytest

from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Started
from actors.roles.protocol import Bulk, Settlement
from actors.usercode.runner import InlineUserCode
from handlers.words import app, search

ERRORS = {
    400: {"type": "document_parsing_exception", "reason": "failed to parse field [word]"},
    429: {"type": "es_rejected_execution_exception", "reason": "queue is full"},
    503: {"type": "unavailable_shards_exception", "reason": "primary shard is not active"},
}


class Elasticsearch(BaseHTTPRequestHandler):
    """Keeps documents; a word names the status that it is to get."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], content))
        if self.path == "/words/_bulk":
            assert self.headers["Content-Type"] == "application/x-ndjson"
            assert content.endswith(b"\n")
            lines = [json.loads(line) for line in content.splitlines()]
            results = [self._index(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
            errors = any("error" in result["index"] for result in results)
            self._answer({"took": 1, "errors": errors, "items": results})
        elif self.path == "/words/_search":
            word = json.loads(content)["query"]["match"]["word"]
            hits = [{"_source": found} for found in self.server.documents.values()]
            self._answer(
                {"hits": {"hits": [hit for hit in hits if hit["_source"]["word"] == word]}}
            )
        else:
            self._answer({"_shards": {}})

    def _index(self, action: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        id, word = action["index"]["_id"], source["word"]
        if word.isdecimal():
            return {"index": {"_id": id, "status": int(word), "error": ERRORS[int(word)]}}
        status = 200 if id in self.server.documents else 201
        self.server.documents[id] = source
        return {"index": {"_id": id, "status": status}}

    def _answer(self, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Elasticsearch)
        self.documents: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str | None, bytes]] = []
        self.status = 200


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("ELASTICSEARCH_URL", f"http://elastic:s3cret@127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def handle(*words: str, attempts: int = 0) -> Settlement:
    bodies = [json.dumps({"id": id, "word": word}).encode() for id, word in enumerate(words, 1)]
    raws = [pack("id", "words_to_index", b"", 0, 1.0, attempts, body) for body in bodies]
    ends = array("I", accumulate(map(len, raws))).tobytes()
    piece = Piece("words_to_index", 1, 1, b"".join(raws), ends, 0)
    (name,) = app.routes
    code = InlineUserCode(app, [RoutePlan(name, (name,))], "spool", lambda: 0.0)
    code.start()
    assert code.turn(0.0) == [Started()]
    code.submit(Bulk(1, 1, name, (piece,), (len(words),)))
    (done,) = code.turn(0.0)
    code.stop()
    code.turn(0.0)
    code.close()
    assert isinstance(done, Settlement)
    return done


def test_a_bulk_is_one_request_and_can_be_searched(server: Server) -> None:
    done = handle("bafodi", "gulemo")
    assert [(r.first, r.last, r.outcome) for r in done.ranges] == [(1, 2, Outcome.ACK)]
    assert server.documents == {"1": {"word": "bafodi"}, "2": {"word": "gulemo"}}
    ((path, auth, _),) = server.asked
    assert path == "/words/_bulk"
    assert auth == "Basic " + base64.b64encode(b"elastic:s3cret").decode()
    assert search("gulemo") == ["gulemo"]


def test_what_fails_item_by_item_is_settled_item_by_item(server: Server) -> None:
    done = handle("bafodi", "429", "400", "503", "gulemo", attempts=2)
    assert [(r.first, r.last, r.outcome) for r in done.ranges] == [
        (1, 1, Outcome.ACK),
        (5, 5, Outcome.ACK),
    ]
    assert [(s.position, s.outcome, s.delay, s.reason) for s in done.singles] == [
        (2, Outcome.REQUEUE, 4.0, "es_rejected_execution_exception: queue is full"),
        (3, Outcome.DEAD_LETTER, 0.0, "document_parsing_exception: failed to parse field [word]"),
        (4, Outcome.REQUEUE, 4.0, "unavailable_shards_exception: primary shard is not active"),
    ]


@pytest.mark.parametrize("status", [401, 413, 429, 500, 503])
def test_a_request_that_fails_as_a_whole_fails_the_bulk_without_showing_the_password(
    server: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = status
    done = handle("bafodi", "gulemo")
    assert [s.outcome for s in done.singles] == [Outcome.RETRY, Outcome.RETRY]
    assert str(status) in done.reports[0].error
    assert "s3cret" not in done.reports[0].error + caplog.text


def test_a_server_that_is_not_there_fails_the_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:9")
    done = handle("bafodi")
    assert done.singles[0].error == "httpx.ConnectError"
