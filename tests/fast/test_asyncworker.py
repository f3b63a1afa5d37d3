"""Every import path of async-worker leads to what takes its place."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import actors
from actors.api.options import Retry, compile_table, policy_of
from actors.asyncworker import App
from actors.asyncworker.conf import logger
from actors.asyncworker.options import DefaultValues
from actors.asyncworker.sse.app import SSEApplication
from actors.connectors.rabbitmq.message import RabbitMQMessage
from actors.connectors.sse.message import Event
from actors.errors import ConfigurationError, InvalidConnection, InvalidMessage, InvalidRoute
from actors.metrics import Counter, Gauge, Histogram
from actors.plan.load import load as load_app
from tests.support.moved import load, moved

PATHS = {
    "asyncworker.Actions": actors.Actions,
    "asyncworker.DefaultValues": DefaultValues,
    "asyncworker.Events": actors.Events,
    "asyncworker.Options": actors.Options,
    "asyncworker.RouteTypes": actors.RouteTypes,
    "asyncworker.app.App": App,
    "asyncworker.connections.AMQPConnection": actors.AMQPConnection,
    "asyncworker.connections.SSEConnection": actors.SSEConnection,
    "asyncworker.decorators.wraps": functools.wraps,
    "asyncworker.easyqueue.exceptions.MessageError": InvalidMessage,
    "asyncworker.easyqueue.exceptions.UndecodableMessageException": (
        actors.UndecodableMessageException
    ),
    "asyncworker.exceptions.InvalidConnection": InvalidConnection,
    "asyncworker.exceptions.InvalidRoute": InvalidRoute,
    "asyncworker.options.Actions": actors.Actions,
    "asyncworker.options.DefaultValues": DefaultValues,
    "asyncworker.options.Defaultvalues": DefaultValues,
    "asyncworker.options.Events": actors.Events,
    "asyncworker.options.Options": actors.Options,
    "asyncworker.options.RouteTypes": actors.RouteTypes,
    "asyncworker.rabbitmq.AMQPRouteOptions": actors.AMQPRouteOptions,
    "asyncworker.rabbitmq.RabbitMQMessage": RabbitMQMessage,
    "asyncworker.rabbitmq.message.Message": RabbitMQMessage,
    "asyncworker.rabbitmq.message.RabbitMQMessage": RabbitMQMessage,
    "asyncworker.routes.AMQPRouteOptions": actors.AMQPRouteOptions,
    "asyncworker.metrics.Counter": Counter,
    "asyncworker.metrics.Gauge": Gauge,
    "asyncworker.metrics.Histogram": Histogram,
    "asyncworker.sse.app.SSEApplication": SSEApplication,
    "asyncworker.sse.message.SSEMessage": Event,
    "asyncworker.utils.Timeit": actors.Timeit,
}

ABSENT = [
    "asyncworker.conf.settings",
    "asyncworker.http.HTTPMethods",
    "asyncworker.http.RequestWrapper",
    "asyncworker.http.decorators.parse_path",
    "asyncworker.http.types.PathParam",
    "asyncworker.http.wrapper.RequestWrapper",
    "asyncworker.testing.HttpClientContext",
    "asyncworker.testing.http_client",
]


@pytest.mark.parametrize("path", PATHS)
def test_an_old_path_leads_to_what_takes_its_place(path: str) -> None:
    module, name = path.rsplit(".", 1)
    assert getattr(load(f"from {module} import {name}\n"), name) is PATHS[path]
    assert getattr(import_module(f"actors.{module}"), name) is PATHS[path]


@pytest.mark.parametrize("path", ABSENT)
def test_what_is_not_taken_over_can_be_imported_and_says_so_when_used(path: str) -> None:
    module, name = path.rsplit(".", 1)
    found: Any = getattr(load(f"from {module} import {name}\n"), name)
    uses: list[Callable[[], Any]] = [lambda: found("x"), lambda: found[int], lambda: found.GET]
    for use in uses:
        with pytest.raises(ConfigurationError, match=rf"asyncworker\..*{name} is not taken over: "):
            use()
    assert not hasattr(found, "__wrapped__")


def test_the_sed_moves_every_way_to_import() -> None:
    ways = "import asyncworker\nfrom asyncworker.options import Options  # of async-worker\n"
    assert moved(ways) == (
        "import actors.asyncworker\n"
        "from actors.asyncworker.options import Options  # of async-worker\n"
    )
    assert load("import asyncworker\napp = asyncworker.App()\n", actors=actors).app.routes == {}


def test_the_defaults_are_those_of_the_documents() -> None:
    """B6"""
    assert (DefaultValues.BULK_SIZE, DefaultValues.BULK_FLUSH_INTERVAL) == (1, 60)
    assert DefaultValues.ON_SUCCESS is actors.Actions.ACK
    assert DefaultValues.ON_EXCEPTION is actors.Actions.REQUEUE
    assert DefaultValues.RUN_EVERY_MAX_CONCURRENCY == 1


@pytest.mark.parametrize("app", [App(), SSEApplication("http://localhost/")])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (None, {}),
        ({}, {}),
        ({actors.Options.BULK_SIZE: 2}, {}),
        ({actors.Events.ON_EXCEPTION: {KeyError: Retry()}}, {KeyError: Retry()}),
        (actors.AMQPRouteOptions(), {}),
        (actors.RouteOptions(on_exception={KeyError: Retry()}), {KeyError: Retry()}),
        ({"on_exception": Retry()}, {Exception: Retry()}),
        ({"on_exception": {Exception: Retry()}}, {Exception: Retry()}),
        (actors.AMQPRouteOptions(on_exception=Retry()), {Exception: Retry()}),
    ],
)
def test_an_app_of_the_old_path_requeues_what_no_table_names(
    app: actors.App, options: Any, named: dict[type[BaseException], Any]
) -> None:
    app.routes.clear()
    app.route(["q"], options=options)(print)
    table = compile_table(app.routes["q"].options.on_exception)
    expected: dict[type[BaseException], Any] = {Exception: actors.Actions.REQUEUE}
    expected.update(named)
    assert {error: table[error] for error in expected} == {
        error: policy_of(outcome) for error, outcome in expected.items()
    }


def test_an_app_of_the_old_path_is_an_app_that_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from asyncworker import App\n"
        "from asyncworker.connections import AMQPConnection\n"
        "app = App(connections=[AMQPConnection(\n"
        "    hostname='rabbit', username='u', password='p', prefetch=1024, name='main')])\n"
    )
    (tmp_path / "old_worker.py").write_text(moved(source))
    monkeypatch.syspath_prepend(tmp_path)
    app = load_app("old_worker:app", str(tmp_path))
    assert isinstance(app, App)
    assert app.connections["main"].prefetch_count == 1024
    assert app.get_connection("main") is not None
    with pytest.raises(InvalidConnection, match="no connection is named 'other'"):
        app.get_connection("other")


def test_http_routes_are_refused_with_one_line() -> None:
    source = (
        "from asyncworker import App, RouteTypes\n"
        "from asyncworker.http import RequestWrapper\n"
        "app = App()\n"
        "@app.{}\n"
        "async def home(wrapper: RequestWrapper): ...\n"
    )
    with pytest.raises(InvalidRoute, match=r"app\.http is not taken over: HTTP routes belong"):
        load(source.format("http.get(['/'])"))
    for route in (
        "route(['/'], type=RouteTypes.HTTP, methods=['GET'])",
        "route(['/'], methods=[])",
    ):
        with pytest.raises(InvalidRoute, match="methods= is not taken over: HTTP routes belong"):
            load(source.format(route))


def test_the_old_logger_may_be_called_and_awaited(caplog: pytest.LogCaptureFixture) -> None:
    async def later() -> None:
        await logger.error({"event": "awaited"})

    logger.warning("called")
    asyncio.run(later())
    assert [(record.name, record.funcName) for record in caplog.records] == [
        ("asyncworker", "test_the_old_logger_may_be_called_and_awaited"),
        ("asyncworker", "later"),
    ]
