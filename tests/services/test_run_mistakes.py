"""A user's mistakes: one line that names setting and value, the exit code, no process left."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, numbers, put, until
from tests.support.broker import Broker, free_port

SECRET = "s3cr3t-of-nobody"


def refused(worker: Worker, code: int, *parts: str) -> None:
    """It ends with the code, and its last words are one line that holds each of these."""
    assert worker.wait(20.0) == code, worker.output
    lines = worker.output.splitlines()
    found = [line for line in lines if all(part in line for part in parts)]
    assert len(found) == 1, worker.output
    assert lines[-1] == found[0]
    assert "Traceback" not in worker.output
    assert SECRET not in worker.output


BAD_APPS = {
    "no_module_of_this_name:app": "no module 'no_module_of_this_name'",
    "bad_app:nothing": "app bad_app:nothing does not exist; apps of this module: bad_app:app",
    "bad_app:number": "app bad_app:number is a int, not an App",
    "no_app:app": "app no_app:app does not exist; this module has no App",
    "broken:app": "app 'broken:app': ZeroDivisionError: division by zero",
    "syntax:app": "app 'syntax:app': SyntaxError",
    "leaves:app": "app 'leaves:app': SystemExit",
    "option:app": "unknown option 'BULK'",
    "negative:app": "bulk_size",
    ":app": "app ':app': must be MODULE:APP",
    "lines:app": "queue setting name: must be a name of one line, not 'a\\nb'",
    "stream:app": "queue events: is a stream",
}

MODULES = {
    "bad_app": "from actors import App\napp = App()\nnumber = 1\n",
    "no_app": "",
    "broken": "1 / 0\n",
    "syntax": "def\n",
    "leaves": "raise SystemExit(0)\n",
    "option": "from actors import App\nApp().route(['work'], options={'BULK': 1})(print)\n",
    "lines": "from actors import App, Queue\nApp().route([Queue('a\\nb')])(print)\n",
    "stream": "import actors\nactors.Queue('events', arguments={'x-queue-type': 'stream'})\n",
    "negative": "from actors import App\nApp().route(['work'], options={'bulk_size': -1})(print)\n",
}


@pytest.mark.parametrize(("app", "told"), BAD_APPS.items())
def test_an_app_that_cannot_be_had(run: Run, tmp_path: Path, app: str, told: str) -> None:
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    worker = run(app, "--app-dir", str(tmp_path), "--connection", "spool:")
    refused(worker, 78, "callboard: ", told)


def test_a_module_that_hides_the_framework(run: Run, tmp_path: Path) -> None:
    (tmp_path / "actors.py").write_text("")
    worker = run("plain", "--app-dir", str(tmp_path), "--connection", "spool:")
    refused(worker, 78, f"{tmp_path}/actors.py hides the package actors of Callboard: rename it")


def test_an_unknown_flag(run: Run) -> None:
    worker = run("plain", "--conection", "spool:")
    refused(worker, 2, "No such option", "--conection")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "no connection is named: use --connection URL or CALLBOARD_CONNECTION"),
        (("--connection", f"amq://me:{SECRET}@host/"), "amq://"),
        (("--connection", f"amqp://me:{SECRET}@host:port/"), "cannot be read"),
        (("--connection", "spool://host/path"), "a spool is a file of this host"),
        (("--connection", "spool:", "--route", "nothing"), "no route is named 'nothing'"),
    ],
)
def test_settings_that_cannot_be_used(run: Run, flags: tuple[str, ...], told: str) -> None:
    refused(run("plain", *flags), 78, "callboard: ", told)


def test_a_route_whose_connection_does_not_exist(run: Run) -> None:
    worker = run("nowhere", "--connection", "spool:")
    refused(worker, 78, "route work: connection 'elsewhere' does not exist; there are: spool")


@pytest.mark.parametrize("variable", ["PREFETCH", "ADMIN_PORT", "LOG_LEVEL"])
def test_a_variable_that_cannot_be_used_is_named(run: Run, variable: str) -> None:
    worker = run("plain", "--connection", "spool:", **{f"CALLBOARD_{variable}": "many"})
    refused(worker, 78, f"CALLBOARD_{variable}: ", "'many'")


def test_a_spool_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    worker = run("plain", "--connection", f"spool://{tmp_path}/file/spool.db")
    refused(worker, 78, f"spool://{tmp_path}/file/spool.db: cannot be used: Not a directory")


def test_a_spool_on_a_network_file_system(run: Run, tmp_path: Path) -> None:
    """Such a file system needs more rights than tests have: the module that asks is told."""
    (tmp_path / "far.py").write_text(
        "from actors.connectors.spool import place as spoolplace\n"
        "spoolplace.file_system = lambda path, mountinfo: 'nfs4'\n"
        "from tests.services.apps import plain as app\n"
    )
    worker = run("far:app", "--app-dir", str(tmp_path), "--connection", f"spool://{tmp_path}/s.db")
    refused(worker, 78, "nfs4", f"{tmp_path}/s.db")


def test_a_name_in_use(run: Run, tmp_path: Path) -> None:
    first = run("plain", "--connection", "spool:")
    first.ready()
    second = Worker(tmp_path, "plain", "--connection", "spool:")
    assert second.launcher.wait(20) == 78
    line = "callboard: --name test: a system of this name is running"
    assert first.output.splitlines()[-1] == line
    assert first.status()["ready"]
    first.launcher.terminate()
    assert first.wait() == 0


def test_an_admin_port_in_use(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = run("plain", "--connection", "spool:", "--admin-port", str(port))
        refused(worker, 78, f"--admin-port {port}: the port is in use")


# ── where hosts meet ─────────────────────────────────────────────────────────


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text("0" * 64)
    return path


@pytest.mark.parametrize("flag", ["--listen", "--join"])
def test_other_hosts_are_met_with_a_key_only(run: Run, flag: str) -> None:
    worker = run("plain", "--connection", "spool:", flag, "127.0.0.1:7000")
    refused(worker, 78, f"{flag} 127.0.0.1:7000: other hosts are met with a key only", "--key-file")


def test_a_key_that_others_may_read(run: Run, key_file: Path) -> None:
    key_file.chmod(0o644)
    flags = ("--listen", "127.0.0.1:0", "--key-file", str(key_file))
    worker = run("plain", "--connection", "spool:", *flags)
    refused(worker, 78, f"--key-file {key_file}: others may read it (mode 0644): chmod 600")


def test_a_key_that_is_none_is_not_shown(run: Run, key_file: Path) -> None:
    key_file.write_text(SECRET)
    flags = ("--listen", "127.0.0.1:0", "--key-file", str(key_file))
    worker = run("plain", "--connection", "spool:", *flags)
    refused(worker, 78, f"--key-file {key_file}: line 1: neither base64 nor hexadecimal")


def test_an_address_of_another_host(run: Run, key_file: Path) -> None:
    flags = ("--listen", "192.0.2.1:7000", "--key-file", str(key_file))
    worker = run("plain", "--connection", "spool:", *flags)
    refused(worker, 78, "--listen 192.0.2.1:7000: 192.0.2.1 is not an IPv4 address of this host")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_port_in_use_where_others_would_join(run: Run, key_file: Path, host: str) -> None:
    with socket.create_server((host, 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        flags = ("--listen", address, "--key-file", str(key_file))
        worker = run("plain", "--connection", "spool:", *flags)
        refused(worker, 78, f"--listen {address}: the port is in use")


def test_a_first_host_whose_name_nobody_knows(run: Run, key_file: Path) -> None:
    worker = run("plain", "--join", "nowhere.invalid:7000", "--key-file", str(key_file))
    refused(worker, 69, "--join nowhere.invalid:7000: ")


# ── what the broker says ─────────────────────────────────────────────────────


def test_a_wrong_password(broker: Broker, run: Run) -> None:
    url = f"amqp://{broker.user}:{SECRET}@{broker.host}:{broker.port}/"
    worker = run("plain", "--connection", url)
    refused(worker, 78, "connection rabbitmq: ", f"{broker.host}:{broker.port}", "ACCESS_REFUSED")


def test_tls_where_nobody_speaks_it(broker: Broker, run: Run) -> None:
    place = f"{broker.host}:{broker.port}/"
    worker = run("plain", "--connection", f"amqps://me:{SECRET}@{place}", "--no-wait")
    refused(worker, 69, f"{place}: what answers does not speak TLS: amqp://, or another port?")


def test_a_missing_vhost(broker: Broker, run: Run) -> None:
    url = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/not-there"
    refused(
        run("plain", "--connection", url), 78, "connection rabbitmq: ", "vhost not-there not found"
    )


def test_a_missing_queue(rabbitmq: BrokerPlace, run: Run) -> None:
    rabbitmq.delete("work")
    worker = run("plain", "--connection", rabbitmq.url)
    refused(worker, 78, "connection rabbitmq: queue work: ", "NOT_FOUND")


def test_a_stream_in_the_place_of_a_queue(rabbitmq: BrokerPlace, run: Run) -> None:
    rabbitmq.delete("work")
    rabbitmq.declare("work", **{"x-queue-type": "stream"})
    worker = run("plain", "--connection", rabbitmq.url)
    refused(worker, 78, "connection rabbitmq: queue work: is a stream", "bind one of those")
    assert worker.handled() == []


def test_nobody_listens_and_nobody_waits(run: Run) -> None:
    port = free_port()
    worker = run("plain", "--connection", f"amqp://me:{SECRET}@127.0.0.1:{port}/", "--no-wait")
    refused(worker, 69, "connection rabbitmq: ", f"127.0.0.1:{port}", "Connection refused")


def test_a_worker_waits_for_its_broker(own_rabbitmq: BrokerPlace, run: Run) -> None:
    put(own_rabbitmq, "work", *numbers(range(10)))
    own_rabbitmq.broker.kill()
    try:
        worker = run("plain", "--connection", own_rabbitmq.url)
        until(lambda: "tried again in" in worker.output)
        assert worker.status()["ready"] is False
    finally:
        own_rabbitmq.broker.start()
    # An attempt in vain takes 10 s at the most, and then 30 s may pass until the next.
    until(lambda: len(worker.times()) == 10, 60.0, worker.output)
    assert worker.ready()
    worker.launcher.terminate()
    assert worker.wait() == 0
