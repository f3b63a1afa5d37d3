"""How URLs, settings and an app come to a plan."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from actors import (
    Actions,
    AMQPConnection,
    App,
    InvalidConnection,
    InvalidRoute,
    Retry,
    RouteTypes,
    SpoolConnection,
    SSEConnection,
)
from actors.api.connections import Connection, parse_connection
from actors.api.state_dir import state_dir
from actors.errors import ConfigurationError
from actors.logic.settlement.failure import DEAD_LETTER, Outcome
from actors.plan.build import build_plan, check_app
from actors.plan.plan import PipelinePlan, Plan
from actors.plan.settings import Settings


def a_handler(messages: list[Any]) -> None: ...


async def an_async_handler(messages: list[Any]) -> None: ...


def an_app(*queues: str, connections: tuple[Connection, ...] = (), **route: Any) -> App:
    app = App(connections=connections)
    for queue in queues or ("words",):
        app.route([queue], **route)(a_handler)
    return app


def settings_of(connection: Connection, vhost: str = "/") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(connection.as_json(vhost, {}))
    return found


def planned(app: App, *connections: str, **settings: Any) -> Plan:
    return build_plan(app, Settings(connections=connections, **settings), "m:app")


def only_unit(app: App, *connections: str, **settings: Any) -> PipelinePlan:
    (pipeline,) = planned(app, *connections, **settings).pipelines
    return pipeline


# ── URLs ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://h", {"host": "h", "port": 5672, "user": "guest", "ssl": False}),
        ("amqps://h:1/", {"port": 1, "ssl": True, "verify": True}),
        ("amqps://h", {"port": 5671}),
        ("amqp://u:p%2Fw%40@h/", {"user": "u", "password": "p/w@"}),
        ("amqp://u:@h/", {"user": "u", "password": ""}),
        ("amqp://h?heartbeat=20&verify_ssl=false", {"heartbeat": 20, "verify": False}),
        ("sse+https://u:p@h:8/a?b=c", {"url": "https://h:8/a?b=c", "user": "u", "password": "p"}),
        ("spool:///a%20b/s.db", {"path": "/a b/s.db"}),
        ("spool:s.db", {"path": f"{os.getcwd()}/s.db"}),
    ],
)
def test_a_url_stands_for_a_connection(url: str, expected: dict[str, Any]) -> None:
    found = settings_of(parse_connection(url))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("path", "vhost"),
    [("", "/"), ("/", "/"), ("/%2F", "/"), ("/a", "a"), ("/%2Fa", "/a"), ("//a", "/a")],
)
def test_the_path_of_an_amqp_url_is_the_vhost(path: str, vhost: str) -> None:
    connection = parse_connection(f"amqp://h{path}")
    assert isinstance(connection, AMQPConnection)
    assert connection.vhost == vhost


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:secret@h/",
        "amqp://u:sec/secret@h/",
        "amqp://u:sec#secret@h/",
        "amqp://u:a1secret\udcff@h/",
        "amqp://u\udcff:secret@h/",
        "amqp://u:secret@h\udcff/",
        "sse+http://u:a1secret\udcff@h/",
        "sse+http://u:secret@h\udcff/",
        "amqp://u:secret@h:port/",
        "amqp://u:secret@h:99999/",
        "amqp://u:%secret@h/",
        "amqp://u:secret%ff@h/",
        "amqp://u:secret@h/100%",
        "sse+http://u:secret%@h/",
        "spool:///%zz",
        "amqp://u:secret@/",
        "amqp://u:secret@h/?heartbeat=-1",
        "amqp://u:secret@h/?password=secret",
        "amqp://u:secret@h/?colour=secret",
        "sse+http://u:secret@/",
        "sse+http://[::1/?token=secret",
        "spool://u:secret@h/path",
        "spool",
        "",
    ],
)
def test_a_bad_url_is_one_line_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_connection(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("connection ")


def test_an_unknown_scheme_is_told_with_the_valid_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'redis://h'.*valid: amqp://, amqps://, spool:, sse\+"
    ):
        parse_connection("redis://h")


def test_no_secret_is_in_what_a_connection_or_the_settings_or_a_plan_show() -> None:
    shown: list[Any] = [
        AMQPConnection(host="h", password="secret"),
        SSEConnection("http://h/?token=secret", password="secret", headers={"A": "secret"}),
        Settings(connections=("amqp://u:secret@h",)),
        planned(an_app(), "amqp://u:secret@h"),
    ]
    assert all("secret" not in f"{one!r} {one!s}" for one in shown)


# ── connections in code ────────────────────────────────────────────────────────


def test_old_names_are_good_names() -> None:
    old = AMQPConnection(hostname="h", username="u", password="p", prefetch=7, ssl=None)
    new = AMQPConnection(host="h", user="u", password="p", prefetch_count=7)
    assert old == new


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: AMQPConnection(user="u"), "connection setting host is missing"),
        (
            lambda: AMQPConnection(host="h", hostname="i"),
            "host and hostname are the same connection setting: give one",
        ),
        (
            lambda: AMQPConnection(host="h", prefetch=0),
            "connection setting prefetch_count: input should be greater than or equal to 1, not 0",
        ),
        (
            lambda: AMQPConnection(host="h", password=b"secret"),
            "connection setting password: input should be a valid string",
        ),
        (
            lambda: AMQPConnection(host=""),
            "connection setting host: is empty: name the broker's host",
        ),
        (
            lambda: AMQPConnection(host="h\0"),
            "connection setting host: must be a host alone: give port=, user=, password= and"
            " vhost= beside it, or the URL as --connection or CALLBOARD_CONNECTION",
        ),
        (
            lambda: AMQPConnection(host="h", user="u\ud800"),
            "connection setting user: must be whole characters, not 'u\\ud800'",
        ),
        (
            lambda: SpoolConnection("a\0b"),
            "connection setting path: holds a NUL, which no path can",
        ),
        (
            lambda: SSEConnection("ftp://h"),
            "connection setting url: must begin with http:// or https://, not ftp:",
        ),
        (
            lambda: SSEConnection("http://u:secret@h"),
            "connection setting url: give user= and password= beside it",
        ),
    ],
)
def test_a_bad_field_is_one_line(make: Any, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value) == line


def test_tls_is_verified_unless_told_otherwise_and_follows_the_port() -> None:
    found = settings_of(AMQPConnection(host="h", port=5671))
    assert (found["ssl"], found["verify"]) == (True, True)
    assert settings_of(AMQPConnection(host="h", ssl=True))["port"] == 5671


def test_an_event_stream_is_one_url_for_each_path() -> None:
    app = App(connections=[SSEConnection("http://h/v1/", headers={"A": "b"})])
    app.route(["/events", "more"], headers={"X": "y"})(a_handler)
    found = json.loads(only_unit(app).settings)
    assert found["paths"] == {
        "/events": {"url": "http://h/v1/events", "headers": {"X": "y"}},
        "more": {"url": "http://h/v1/more", "headers": {"X": "y"}},
    }
    assert (found["headers"], found["idle_timeout"]) == ({"A": "b"}, 90.0)


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h", "a", "http://h/a"),
        ("http://h", "/a", "http://h/a"),
        ("http://h/", "/a/", "http://h/a/"),
        ("http://h:8/base/path", "/a", "http://h:8/base/path/a"),
        ("http://h/base/path/", "a", "http://h/base/path/a"),
        ("http://h/base", "//a", "http://h/base/a"),
        ("http://h/base", "/", "http://h/base"),
        ("http://h", "/", "http://h/"),
        ("http://h/base/", "/", "http://h/base/"),
        ("http://h?x=1", "/a", "http://h/a?x=1"),
        ("http://h/base?x=1", "/a", "http://h/base/a?x=1"),
        ("http://h/base?x=1", "/a?y=2", "http://h/base/a?x=1&y=2"),
        ("http://h/base?x=1", "?y=2", "http://h/base?x=1&y=2"),
        ("http://h/base?x=1", "a?x=2", "http://h/base/a?x=1&x=2"),
        ("http://h/base?t=a%2Fb", "/%C3%A9", "http://h/base/%C3%A9?t=a%2Fb"),
        ("http://h/base", "events:all", "http://h/base/events:all"),
        ("http://h/base", "http:/a", "http://h/base/http:/a"),
        ("http://h/base?x=1", "https://other/a?y=2", "https://other/a?y=2"),
    ],
)
def test_a_stream_is_below_the_path_of_its_connection_with_the_parameters_of_both(
    base: str, path: str, url: str
) -> None:
    app = App()
    app.route([path])(a_handler)
    (pipeline,) = build_plan(app, Settings(connections=(f"sse+{base}",))).pipelines
    assert json.loads(pipeline.settings)["paths"][path]["url"] == url


# ── which connection ───────────────────────────────────────────────────────────


def test_where_no_connection_is_named_the_error_says_how_to_name_one() -> None:
    with pytest.raises(InvalidConnection, match="--connection URL or CALLBOARD_CONNECTION"):
        planned(an_app())


def test_an_app_without_connections_gets_the_one_that_is_named_for_all_its_routes() -> None:
    pipeline = only_unit(an_app("a", "b"), "spool:/tmp/s.db")
    assert (pipeline.name, pipeline.kind) == ("spool", "spool")
    assert json.loads(pipeline.settings) == {"name": "spool", "path": "/tmp/s.db"}
    assert [route.name for route in pipeline.routes] == ["a", "b"]


def test_a_nameless_url_replaces_the_place_of_the_only_connection_and_keeps_its_tuning() -> None:
    app = an_app(connections=(AMQPConnection(host="h", user="u", prefetch=7, name="main"),))
    pipeline = only_unit(app, "amqp://other/vh")
    found = json.loads(pipeline.settings)
    assert (pipeline.name, pipeline.routes[0].prefetch) == ("main", 7)
    assert (found["host"], found["user"], found["vhost"]) == ("other", "guest", "vh")


def test_a_name_given_for_want_of_one_does_not_stay_on_another_kind() -> None:
    app = an_app(connections=(AMQPConnection(host="h"),))
    assert only_unit(app, "spool:").name == "spool"
    assert only_unit(app, "rabbitmq=spool:").name == "rabbitmq"


def test_a_named_url_replaces_the_connection_of_its_name() -> None:
    app = App(connections=[AMQPConnection(host="h", name="a"), SpoolConnection(name="b")])
    app.route(["x"], connection="a")(a_handler)
    app.route(["y"], connection="b")(a_handler)
    first, second = planned(app, "a=amqp://other").pipelines
    assert json.loads(first.settings)["host"] == "other"
    assert (second.name, second.kind) == ("b", "spool")


def test_a_connection_that_only_routes_name_can_be_given_where_the_app_is_run() -> None:
    app = an_app("a", connection="logs")
    assert only_unit(app, "logs=spool:").name == "logs"
    missing = "connection 'logs' does not exist; there are: spool"
    with pytest.raises(InvalidConnection, match=missing):
        planned(app, "spool:")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["amqp://h"], "the app has several; say which: a=URL or b=URL"),
        (["c=amqp://h"], "the app has no connection 'c'; there are: a, b"),
        (["a=amqp://h", "a=spool:"], "'a' is given twice"),
    ],
)
def test_a_url_that_replaces_nothing_is_an_error(arguments: list[str], line: str) -> None:
    pair = (AMQPConnection(host="h", name="a"), SpoolConnection(name="b"))
    with pytest.raises(InvalidConnection, match=line):
        planned(an_app(connections=pair, connection="a"), *arguments)


def test_of_two_connections_a_silent_route_takes_the_only_one_of_its_type_or_none() -> None:
    pair = (AMQPConnection(host="h"), SpoolConnection())
    assert only_unit(an_app(connections=pair, type=RouteTypes.SPOOL)).kind == "spool"
    with pytest.raises(InvalidRoute, match="several connections could serve it; set connection= "):
        planned(an_app(connections=pair))
    with pytest.raises(InvalidRoute, match="no connection is of type SSE; there are: rabbitmq"):
        planned(an_app(connections=pair, type=RouteTypes.SSE))


def test_a_route_of_one_type_is_not_served_by_another() -> None:
    app = an_app(connections=(SpoolConnection(name="a"),), connection="a", type=RouteTypes.SSE)
    with pytest.raises(InvalidRoute, match="is of type SSE, but connection 'a' is of kind spool"):
        planned(app)


def test_each_vhost_is_a_unit_of_its_own_and_keeps_its_slash() -> None:
    app = App("h", "u", "p", vhost="own")
    app.route(["a"])(a_handler)
    app.route(["b"], vhost="/fluentd")(a_handler)
    app.route(["c"], vhost="fluentd")(a_handler)
    pipelines = planned(app).pipelines
    assert [pipeline.name for pipeline in pipelines] == [
        "rabbitmq:own", "rabbitmq:/fluentd", "rabbitmq:fluentd",
    ]  # fmt: skip
    assert [json.loads(pipeline.settings)["vhost"] for pipeline in pipelines] == [
        "own",
        "/fluentd",
        "fluentd",
    ]


def test_a_queue_belongs_to_one_route() -> None:
    app = an_app("a", connections=(SpoolConnection(),))
    app.route(["b", "a"])(a_handler)
    with pytest.raises(InvalidRoute, match="routes a and b both consume queue 'a'"):
        planned(app)


def test_only_the_routes_that_are_named_run() -> None:
    app = an_app("a", "b", connections=(SpoolConnection(),))
    assert [route.name for route in only_unit(app, routes=("b",)).routes] == ["b"]
    with pytest.raises(InvalidRoute, match="no route is named 'c'; there are: a, b"):
        planned(app, routes=("c",))


def test_an_app_that_does_nothing_is_an_error_and_one_with_a_timer_is_none() -> None:
    app = App()
    with pytest.raises(InvalidRoute, match="neither a route nor a timer"):
        planned(app)
    app.run_every(1)(lambda app: None)
    plan = planned(app)
    assert (plan.pipelines, plan.clock) == ((), True)


# ── the numbers of a route ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "prefetch", "bulk", "in_flight"),
    [
        ({}, 128, 1, 1),
        ({"bulk_size": 256}, 512, 256, 1),
        ({"bulk_size": 256, "concurrency": 2}, 1024, 256, 1),
        ({"bulk_size": 10, "in_flight": 8}, 160, 10, 8),
        ({"bulk_size": 100_000}, 65535, 65535, 1),
    ],
)
def test_an_unset_prefetch_fills_two_bulks_at_every_handler(
    options: dict[str, Any], prefetch: int, bulk: int, in_flight: int
) -> None:
    (route,) = only_unit(an_app(options=options), "spool:").routes
    assert (route.prefetch, route.bulk_size, route.in_flight) == (prefetch, bulk, in_flight)


@pytest.mark.parametrize(
    ("bulk", "prefetch", "effective"), [(2048, 1024, 1024), (4096, 8192, 4096)]
)
def test_a_bulk_is_never_larger_than_the_prefetch(bulk: int, prefetch: int, effective: int) -> None:
    app = an_app(options={"bulk_size": bulk})
    assert only_unit(app, "spool:", prefetch=prefetch).routes[0].bulk_size == effective


@pytest.mark.parametrize(
    ("options", "prefetch", "in_flight"),
    [({}, None, 64), ({}, 16, 16), ({"bulk_size": 256}, 512, 2), ({"bulk_size": 256}, 300, 1)],
)
def test_an_async_handler_has_as_many_bulks_in_flight_as_the_prefetch_fills(
    options: dict[str, Any], prefetch: int | None, in_flight: int
) -> None:
    app = App()
    app.route(["a"], options=options)(an_async_handler)
    assert only_unit(app, "spool:", prefetch=prefetch).routes[0].in_flight == in_flight


def test_a_small_explicit_prefetch_is_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    app = an_app(options={"bulk_size": 1000})
    with caplog.at_level(logging.WARNING, "actors"):
        pipeline = only_unit(app, "spool:", prefetch=1024)
    assert pipeline.routes[0].prefetch == 1024
    assert "route words: a prefetch of 1024 is less than two bulks" in caplog.text


def test_what_befalls_a_message_outside_its_handler_is_in_the_plan() -> None:
    usual, own = (
        only_unit(an_app(options=options), "amqp://h").routes[0]
        for options in (
            {},
            {"on_exception": {Exception: Retry(attempts=5), TimeoutError: Actions.DEAD_LETTER}},
        )
    )
    assert (usual.on_timeout.outcome, usual.on_crash) == (Outcome.RETRY, DEAD_LETTER)
    assert (own.on_timeout, own.last_alone) == (DEAD_LETTER, 5)
    assert usual.last_alone == 20


@pytest.mark.parametrize(
    ("table", "last_alone"),
    [
        (None, 20),
        (Retry(attempts=1), 0),
        (Retry(attempts=0), 0),
        ({KeyError: Retry(attempts=3)}, 3),
    ],
)
def test_the_last_attempt_of_the_shortest_ladder_is_made_alone(table: Any, last_alone: int) -> None:
    app = an_app(options={"on_exception": table})
    assert only_unit(app, "spool:").routes[0].last_alone == last_alone


def test_settings_reach_the_plan() -> None:
    plan = planned(an_app(), "spool:", burst=True, max_bytes=100, name="n", shutdown_timeout=3.0)
    assert (plan.app, plan.name, plan.shutdown_timeout, plan.clock) == ("m:app", "n", 3.0, False)
    assert (plan.pipelines[0].burst, plan.pipelines[0].wait, plan.pipelines[0].max_bytes) == (
        True,
        False,
        100,
    )
    assert planned(an_app(), "spool:").name == "m:app"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"prefetch": 0}, "setting prefetch: input should be greater than or equal to 1, not 0"),
        ({"name": "a/b"}, "setting name: is made of letters, digits and '_.:@-', not 'a/b'"),
        ({"host_name": ""}, "setting host_name: is made of letters, digits and '_.:-', not ''"),
        ({"health": "8080"}, "setting health: must be HOST:PORT, not '8080'"),
        ({"log_level": "LOUD"}, "setting log_level: input should be 'DEBUG', .*, not 'LOUD'"),
        ({"admin_port": 70000}, "setting admin_port: .*, not 70000"),
    ],
)
def test_a_bad_setting_is_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}$"):
        Settings(**values)


@pytest.mark.parametrize(
    ("outcome", "first"),
    [
        (Retry(first=3.0), 3.0),
        (Retry(first=3.0, cap=2.0), 2.0),
        ({ValueError: Retry(first=9.0), Exception: Retry(first=4.0)}, 4.0),
        ({ValueError: Retry(first=9.0)}, 1.0),
        (Retry(attempts=1), None),
        (Actions.REJECT, None),
        (None, 1.0),
    ],
)
def test_the_first_wait_of_a_retry_is_known(outcome: Any, first: float | None) -> None:
    app = an_app(options={"on_exception": outcome})
    (pipeline,) = build_plan(app, Settings(connections=("amqp://h",)), "m:a").pipelines
    assert pipeline.retries == ({} if first is None else {"words": first})


# ── what check tells ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"max_memory": 1}, "max_memory 1 is what a process may hold before it does anything"),
        ({"timeout": 1800}, "timeout 1800 s is not under RabbitMQ's own"),
        (
            {"order_by": "routing_key"},
            "with order_by a message that fails waits here, unsettled, for",
        ),
        (
            {"order_by": "routing_key", "on_exception": Retry(attempts=0, cap=1.0)},
            "with order_by a message that fails waits here, unsettled, without end in all",
        ),
        (
            {"bulk_flush_interval": 901, "bulk_size": 2},
            "bulk_flush_interval 901 s: a bulk waits for 900 s at the",
        ),
        ({"on_exception": Actions.REJECT}, "REJECT drops messages of words unless the queue"),
        ({"on_success": Actions.REJECT}, "REJECT drops messages"),
        ({"requires": {"gpu": 2}}, "it waits for a host that offers gpu=2: this one does not"),
    ],
)
def test_check_warns(options: dict[str, Any], warning: str) -> None:
    (line,) = check_app(an_app(options=options), Settings(connections=("amqp://h",)))
    assert line.startswith(f"route words: {warning}")


def test_check_says_that_no_connection_is_named_and_looks_on() -> None:
    first, second = check_app(an_app(options={"on_success": Actions.REJECT}))
    assert first.startswith("no connection is named")
    assert second == "route words: REJECT drops messages: DEAD_LETTER keeps them"


def test_check_has_nothing_to_say_of_a_sound_app() -> None:
    app = an_app(options={"bulk_size": 256}, connections=(AMQPConnection(host="h", prefetch=512),))
    assert check_app(app) == []


# ── directories ────────────────────────────────────────────────────────────────


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for variable in ("CALLBOARD_STATE_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def test_the_state_directory_is_the_most_explicit_one(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("HOME", "/home/me")
    assert state_dir() == Path("/home/me/.local/state/callboard")
    bare.setenv("XDG_STATE_HOME", "/xdg")
    assert state_dir() == Path("/xdg/callboard")
    bare.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert state_dir() == Path("/var/lib/one")
    bare.setenv("CALLBOARD_STATE_DIR", "/mine")
    assert state_dir() == Path("/mine")
    assert settings_of(parse_connection("spool:"))["path"] == "/mine/spool.db"
