"""What a user declares: apps, routes, hooks and timers; and how an app is found."""

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

from actors import (
    Actions,
    AMQPConnection,
    AMQPRouteOptions,
    App,
    ConfigurationError,
    HandlerActor,
    InvalidConnection,
    InvalidRoute,
    Message,
    Options,
    RabbitMQMessage,
    RouteTypes,
    SpoolConnection,
    SSEApplication,
    SSEConnection,
)
from actors.plan.build import build_plan
from actors.plan.load import load


class Word:
    text: str


async def index(messages: list[Message[Word]]) -> None: ...


def count(messages: list[Any]) -> None: ...


class IndexWords(HandlerActor):
    async def handle(self, messages: list[RabbitMQMessage[Word]]) -> None: ...


class Callable:
    async def __call__(self, messages: list[Any]) -> None: ...


# ── apps ───────────────────────────────────────────────────────────────────────


def test_an_app_takes_every_field_of_its_one_connection() -> None:
    app = App(host="h", user="u", password="p", prefetch_count=9, port=5671, heartbeat=20)
    assert app.connections == {
        "rabbitmq": AMQPConnection(
            host="h", user="u", password="p", prefetch_count=9, port=5671, heartbeat=20,
            name="rabbitmq",
        ),
    }  # fmt: skip
    assert App(hostname="h", username="u", password="p").connections["rabbitmq"].name == "rabbitmq"


def test_variables_that_are_not_set_make_no_connection() -> None:
    assert App(host=None, user=None, password=None).connections == {}


def test_connections_without_a_name_get_one_each() -> None:
    app = App(connections=[AMQPConnection(host="a"), AMQPConnection(host="b"), SpoolConnection()])
    assert list(app.connections) == ["rabbitmq", "rabbitmq-2", "spool"]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: App(user="u"), "connection setting host is missing"),
        (lambda: App(hots="h"), "unknown connection setting 'hots'; valid: name,"),
        (lambda: App("h", colour=3), "unknown connection setting 'colour'; valid: name,"),
        (lambda: App("h", connections=[SpoolConnection()]), "give host= or connections=, not both"),
        (
            lambda: App(connections=["amqp://u:secret@h"]),  # type: ignore[list-item]
            "connections: a str is no connection: give AMQPC",
        ),
        (
            lambda: App(connections=[SpoolConnection(name="a"), SpoolConnection(name="a")]),
            "two connections are named 'a'",
        ),
    ],
)
def test_a_bad_app_is_one_line(make: Any, line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        make()


def test_an_app_is_its_state_until_the_start_up_hooks_have_run() -> None:
    app = App()
    assert app
    app["db"] = 1
    app.freeze()
    assert (dict(app), len(app), "db" in app) == ({"db": 1}, 1, True)
    with pytest.raises(RuntimeError, match=r"app\['db'\]: the app has started"):
        app["db"] = 2
    with pytest.raises(RuntimeError):
        del app["db"]


def test_two_apps_of_the_same_state_are_two() -> None:
    assert len({App(), App()}) == 2


def test_an_event_stream_app_has_its_one_connection() -> None:
    app = SSEApplication("http://h/", user="u", password="p", headers={"A": "b"}, idle_timeout=5.0)
    connection = app.connections["sse"]
    assert isinstance(connection, SSEConnection)
    assert (connection.user, connection.headers, connection.idle_timeout) == ("u", {"A": "b"}, 5.0)
    assert app.logger.name == "actors"


def test_a_connection_that_does_not_exist_is_told_with_those_that_do() -> None:
    app = App(connections=[SpoolConnection()])
    assert app.connection("spool") is app.connections["spool"]
    with pytest.raises(InvalidConnection, match="no connection is named 'x'; there are: spool"):
        app.connection("x")


# ── routes ─────────────────────────────────────────────────────────────────────


def test_a_decoration_leaves_its_function_unchanged_and_each_is_a_route() -> None:
    app = App()
    assert app.route(["a", "b"])(app.route(["c"], vhost="/x")(index)) is index
    assert app.routes["a"].queues == ("a", "b")
    assert (app.routes["c"].handler, app.routes["c"].vhost) == (index, "/x")


@pytest.mark.parametrize(
    ("handler", "is_async"),
    [
        (index, True),
        (count, False),
        (IndexWords, True),
        (Callable(), True),
        (functools.partial(index), True),
        (lambda messages: None, False),
    ],
)
def test_functions_classes_and_objects_are_handlers(handler: Any, is_async: bool) -> None:
    app = App()
    assert app.route(["a"])(handler) is handler
    assert app.routes["a"].is_async is is_async


def a_generator(messages: list[Any]) -> Iterator[None]:
    yield


async def without_arguments() -> None: ...


class Plain:
    def handle(self, messages: list[Any]) -> None: ...


class WithoutHandle(HandlerActor): ...


class WithArguments(HandlerActor):
    def __init__(self, db: str) -> None: ...

    def handle(self, messages: list[Any]) -> None: ...


def of_one(message: Message[int]) -> None: ...


class HandlesNothing(HandlerActor):
    def handle(self) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("handler", "line"),
    [
        (3, "a handler is a function, a HandlerActor class or a callable object, not 3"),
        (a_generator, "handler a_generator yields: a handler returns"),
        (without_arguments, "handler without_arguments must take one argument, the messages"),
        (Plain, "handler class Plain does not derive from HandlerActor"),
        (WithoutHandle, r"handler class WithoutHandle has no method handle\(messages\)"),
        (WithArguments, "handler class WithArguments must be made without arguments"),
        (HandlesNothing, "handler HandlesNothing must take one argument, the messages"),
        (
            of_one,
            r"handler of_one takes a list of messages, not Message\[int\]: write list\[Message.*",
        ),
        (IndexWords(), "a handler is the class IndexWords, not an instance"),
    ],
)
def test_what_could_not_be_called_is_refused_where_it_is_declared(handler: Any, line: str) -> None:
    app = App()
    with pytest.raises(InvalidRoute, match=f"^route a: {line}$"):
        app.route(["a"])(handler)
    assert app.routes == {}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"routes": []}, "a route needs at least one queue: routes is empty"),
        ({"routes": count}, r'a route needs its queues: @app.route\(\["queue"\]\)'),
        ({"routes": [""]}, "routes: a queue is named by 1 to 255 bytes, not ''"),
        ({"routes": [3]}, "routes: a queue is named by 1 to 255 bytes, not 3"),
        ({"routes": ["a", "a"]}, "routes: queue 'a' is named twice"),
        ({"routes": ["a"], "type": RouteTypes.HTTP}, "route a: HTTP routes are not taken over"),
        (
            {"routes": ["a"], "options": {Options.BULK_SIZE: -1}},
            "route a: option bulk_size: input should be greater than or equal to 1, not -1",
        ),
        ({"routes": ["a"], "vhost": 3}, "route a: vhost must be a str, not int"),
        ({"routes": ["a"], "headers": {"B": b"c"}}, "route a: B must be a str, not bytes"),
        ({"routes": ["a"], "options": [1]}, r"route a: options must be a mapping, .*, not \[1\]"),
        ({"routes": ["a"], "options": {"bulk": 1}}, "route a: unknown option 'bulk'; valid: "),
        (
            {"routes": ["a"], "connection": SpoolConnection()},
            "route a: connection: is none of the connections of the app",
        ),
    ],
)
def test_a_bad_route_is_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidRoute, match=f"^{line}"):
        App().route(**arguments)


def test_a_type_of_another_kind_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="type: must be one of RouteTypes, not 'amqp'"):
        App().route(["a"], "amqp")  # type: ignore[arg-type]


def test_a_single_queue_needs_no_list() -> None:
    app = App()
    app.route("words")(count)
    assert app.routes["words"].queues == ("words",)


def test_routes_of_one_queue_name_are_told_apart_by_vhost_connection_or_name() -> None:
    app = App(connections=[SpoolConnection(name="s")])
    app.route(["a"])(count)
    app.route(["a"], vhost="/v")(count)
    app.route(["a"], connection="s")(count)
    app.route(["a"], name="mine")(count)
    assert list(app.routes) == ["a", "a@/v", "a@s", "mine"]
    with pytest.raises(InvalidRoute, match="route mine: there is one of this name: set name="):
        app.route(["b"], name="mine")(count)


def test_options_may_name_the_connection_of_any_route() -> None:
    pair = [AMQPConnection(host="a", name="a"), AMQPConnection(host="b", name="b")]
    app = App(connections=pair)
    app.route(["q"], options={"connection": "b"})(count)
    assert app.routes["q"].connection == "b"


def test_amqp_routes_may_name_the_connection_in_their_options() -> None:
    main, other = AMQPConnection(host="a"), AMQPConnection(host="b", name="other")
    app = App(connections=[main, other])
    app.amqp.consume(["a"], options=AMQPRouteOptions(connection=main, bulk_size=3))(count)
    app.amqp.consume(["b"], vhost="/v", options=AMQPRouteOptions(connection="other"))(count)
    assert [route.connection for route in app.routes.values()] == ["rabbitmq", "other"]
    assert {route.type for route in app.routes.values()} == {RouteTypes.AMQP_RABBITMQ}
    assert (app.routes["a"].options.bulk_size, app.routes["b"].vhost) == (3, "/v")


Payload = TypeVar("Payload")


def anything(messages: list[Message[Any]]) -> None: ...


def generic(messages: list[Message[Payload]]) -> None: ...


def a_mapping(messages: "list[Message[dict[str, int]]]") -> None: ...


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (index, Word),
        (IndexWords, Word),
        (a_mapping, dict[str, int]),
        (functools.partial(index), Word),
        (count, None),
        (anything, None),
        (generic, None),
        (Callable(), None),
    ],
)
def test_the_payload_type_is_read_from_the_annotation(handler: Any, expected: Any) -> None:
    app = App()
    app.route(["a"])(handler)
    assert app.routes["a"].message_type == expected


# ── hooks, timers, callbacks ───────────────────────────────────────────────────


def test_hooks_and_timers_are_kept_in_order_and_returned_unchanged() -> None:
    app = App()

    async def hook(app: App) -> None: ...

    assert app.run_on_startup(app.run_on_startup(hook)) is hook
    assert app.run_on_shutdown(hook) is hook
    assert app.run_every(0.5, options={Options.MAX_CONCURRENCY: 2})(hook) is hook
    assert (app.startup_hooks, app.shutdown_hooks) == ([hook, hook], [hook])
    (timer,) = app.timers
    assert (timer.seconds, timer.options.max_concurrency, timer.options.singleton) == (
        0.5,
        2,
        False,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((0,), "run_every: seconds must be more than 0, not 0"),
        ((float("nan"),), "run_every: seconds must be more than 0, not nan"),
        ((1, {Options.BULK_SIZE: 1}), "unknown option 'bulk_size'; valid: max_concurrency, single"),
        ((1, "singleton"), "options must be a mapping, .*, not 'singleton'"),
        ((1, {Options.MAX_CONCURRENCY: 0}), "option max_concurrency: .* to 1, not 0"),
    ],
)
def test_a_bad_timer_is_one_line(arguments: Any, line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        App().run_every(*arguments)


def test_fail_callbacks_of_connections_and_routes_are_called_once_each() -> None:
    async def first(error: Exception, retries: int) -> None: ...

    async def second(error: Exception, retries: int) -> None: ...

    app = App("h", "u", "p", connection_fail_callback=first)
    app.route(["a"], options={Options.CONNECTION_FAIL_CALLBACK: second})(count)
    app.route(["b"], options={Options.CONNECTION_FAIL_CALLBACK: first})(count)
    assert app.fail_callbacks("rabbitmq") == [second, first]
    assert build_plan(app).clock


# ── finding an app ─────────────────────────────────────────────────────────────

GOOD = "from actors import App, SpoolConnection\napp = App()\nother = App()\nthing = 3\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    """A module of a name that no other test uses, in a directory of its own."""
    name = f"some_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(GOOD)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_an_app_is_found_and_its_module_is_imported_once(module: str, tmp_path: Path) -> None:
    app = load(module, str(tmp_path))
    assert isinstance(app, App)
    assert load(f"{module}:app", str(tmp_path)) is app
    assert sys.path[0] == str(tmp_path)


def test_a_module_that_is_imported_already_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = ModuleType("ready")
    ready.app = App()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ready", ready)
    assert load("ready:app") is ready.app


@pytest.mark.parametrize("import_string", ["", ":app", "module:"])
def test_an_import_string_names_module_and_app(import_string: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^app '{import_string}': must be MODULE:APP$"):
        load(import_string)


def test_a_missing_module_is_named(tmp_path: Path, module: str) -> None:
    line = f"app 'nowhere.at:app': no module 'nowhere' in {tmp_path} or on the Python path"
    with pytest.raises(ConfigurationError) as caught:
        load("nowhere.at:app", str(tmp_path))
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("orders.py", "orders:app"),
        ("./orders.py:shop", "orders:shop"),
        ("src/orders.py", "orders:app --app-dir src"),
    ],
)
def test_who_names_a_file_is_told_how_its_module_is_named(file: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert str(caught.value) == f"app {file!r}: name the module, not its file: {told}"


def test_an_error_in_a_package_below_the_app_is_told_where_the_app_caused_it(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / ".venv/lib/site-packages"
    packages.mkdir(parents=True)
    (packages / "helper_of_app.py").write_text("def fail():\n    1 / 0\n")
    monkeypatch.syspath_prepend(str(packages))
    path = tmp_path / f"{module}.py"
    path.write_text("import helper_of_app\n\nhelper_of_app.fail()\n")
    with pytest.raises(ConfigurationError) as caught:
        load(module, str(tmp_path))
    assert str(caught.value).endswith(f"({path}, line 3)")


def test_a_checkout_beside_an_installed_copy_says_how_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors/py.typed").touch()
    with pytest.raises(ConfigurationError, match=r"hides the package actors .* pip install -e"):
        load("orders:app", str(tmp_path))


def test_a_missing_app_is_told_with_those_that_are_there(tmp_path: Path, module: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(f"{module}:nothing", str(tmp_path))
    assert str(caught.value) == (
        f"app {module}:nothing does not exist; apps of this module: {module}:app, {module}:other"
    )
    with pytest.raises(ConfigurationError, match="thing is a int, not an App; apps of this"):
        load(f"{module}:thing", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import json\n\n\njson.loads('{')", "JSONDecodeError: Expecting property name"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_"),
        ("app.route([])", "a route needs at least one queue: routes is empty"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_an_error_inside_the_module_names_file_and_line(
    tmp_path: Path, module: str, line: str, text: str
) -> None:
    path = tmp_path / f"{module}.py"
    path.write_text(f"{GOOD}{line}\n")
    at = GOOD.count("\n") + 1 + line.count("\n")
    with pytest.raises(ConfigurationError) as caught:
        load(module, str(tmp_path))
    assert text in str(caught.value)
    assert str(caught.value).endswith(f"({path}, line {at})")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rival", ["actors.py", "actors/__init__.py"])
def test_a_module_that_hides_actors_is_refused(tmp_path: Path, module: str, rival: str) -> None:
    (tmp_path / rival).parent.mkdir(exist_ok=True)
    (tmp_path / rival).touch()
    with pytest.raises(ConfigurationError, match="hides the package actors of Callboard"):
        load(module, str(tmp_path))


def test_a_missing_app_dir_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^app-dir '/nowhere' is no directory$"):
        load("x", "/nowhere")


def test_a_script_that_runs_its_app_can_be_loaded(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(f"{GOOD}app.run()\n")
    assert isinstance(load(module, str(tmp_path)), App)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("App().run()", "app.run() finds the app under no name of the script"),
        ("app = App()\napp.route('a')(print)\napp.run()", "no connection is named"),
    ],
)
def test_a_script_that_cannot_run_its_app_says_why_in_one_line(
    tmp_path: Path, lines: str, told: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"from actors import App\n{lines}\n")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.stderr.startswith(f"callboard: {told}")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)


def test_an_action_is_no_string_by_accident() -> None:
    assert {action.name.lower() for action in Actions} == {str(action) for action in Actions}
