"""A private RabbitMQ node: own name, ports, directories; nothing of it is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import pika

from actors.logic.messages.properties import join, table

BINARIES = "usr/lib/rabbitmq/lib/rabbitmq_server-{}/sbin"
EPMD = "usr/lib/erlang/erts-*/bin/epmd"

#: Runs a command in a folder that `.ci/broker` made.
ENTER = str(Path(__file__).parents[2] / ".ci/enter")

#: The node and a port mapper of its own, in one process group that is killed when the
#: node ends, and when our end of its stdin closes: tests that are killed leave no node.
GROUP = '"$0" & ("$1"; kill -KILL 0) & read _; kill -KILL 0'

START_LIMIT = 60.0  # seconds; a node takes four to ten


def root(version: str | None) -> Path:
    """The folder that `.ci/broker` unpacks a version into; the distribution's is in "/"."""
    if version is None:
        return Path("/")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / f"callboard/brokers/rabbitmq-{version}"


def binaries(version: str | None = None) -> Path | None:
    """Where in its `root` `rabbitmq-server` and `rabbitmqctl` are, past the wrappers that
    change the user."""
    return _inside(version, BINARIES.format("*" if version is None else f"{version}.*"))


def missing(version: str | None = None) -> str:
    """How to get a version that is not here."""
    if version is None:
        return (
            "no RabbitMQ to test with: install the package rabbitmq-server (Debian, Ubuntu; it "
            "need not run), or name a broker: "
            "CALLBOARD_TEST_AMQP=amqp://user:password@host:5672/vhost"
        )
    return f"no RabbitMQ {version} to test with: .ci/broker {version} brings it"


def free_port() -> int:
    """A port of loopback that nobody listens on.

    Below the range from which the system gives ports to clients: while a broker is down, a
    client that calls it again and again would one day be given its port, and keep it.
    """
    for port in SystemRandom().sample(range(12_000, 32_000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 12000 and 32000")


class Broker:
    """A running node, of the distribution's RabbitMQ or of a version that `.ci/broker` brings.

    `tls` adds a listener with a certificate for "localhost", `address` one for other hosts.
    """

    host = "127.0.0.1"
    user = "guest"
    password = "guest"

    def __init__(self, tls: bool = False, address: str = "", version: str | None = None) -> None:
        home = binaries(version)
        if home is None:
            raise FileNotFoundError(missing(version))
        self._home = home
        self._version = version
        self._enter = [ENTER, str(root(version))] if version else []
        self._address = address
        self._process = _nothing()
        self._prepare(tls)
        try:
            self.start()
        except RuntimeError:  # somebody may have taken a port between our look and its bind
            self._prepare(tls)
            self.start()

    def _prepare(self, tls: bool) -> None:
        """A directory, a name and ports of its own."""
        # Of the machine's folders, a version of another suite sees /tmp alone.
        self._directory = Path(tempfile.mkdtemp(prefix="callboard-broker-", dir="/tmp"))
        self.port, epmd, distribution = free_port(), free_port(), free_port()
        self.tls_port = free_port() if tls else 0
        self._name = f"callboard-{secrets.token_hex(4)}@localhost"
        if tls:
            make_certificates(self._directory)
        (self._directory / "rabbitmq.conf").write_text(self._configuration())
        (self._directory / "enabled_plugins").write_text("[].")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),  # of the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_PID_FILE": str(self._directory / "pid"),
            "ERL_CRASH_DUMP": str(self._directory / "erl_crash.dump"),
            # A node for tests need not spin while it waits for work.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    # ── life and death ───────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the node, again after `kill`, and wait until it accepts."""
        programs = _inside(self._version, EPMD), self._home / "rabbitmq-server"
        output = self._directory / "server.out"
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [*self._enter, "sh", "-c", GROUP, *map(str, programs)],
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._accepts():
            if time.monotonic() > deadline or self._process.poll() is not None:
                told = output.read_text()[-3000:]
                self.stop()
                raise RuntimeError(f"RabbitMQ did not start: {told}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the node and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        """End the node and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as probe:
                probe.settimeout(5)
                probe.sendall(b"AMQP\0\0\x09\x01")
                return bool(probe.recv(1))
        except OSError:
            return False

    # ── administration ───────────────────────────────────────────────────────

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl`; raises CalledProcessError."""
        done = subprocess.run(
            [*self._enter, str(self._home / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, arguments, done.stdout, done.stderr
            )
        return done.stdout

    def evaluate(self, expression: str) -> str:
        """Run Erlang in the node."""
        return self.ctl("eval", expression).strip()

    def add_vhost(self) -> str:
        """A fresh vhost that the user may do all in."""
        name = f"test-{secrets.token_hex(6)}"
        # One call instead of two: each starts an Erlang of its own.
        self.evaluate(
            f'rabbit_vhost:add(<<"{name}">>, <<"test">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{self.user}">>, <<"{name}">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"test">>).'
        )
        return name

    def delete_vhost(self, name: str) -> None:
        self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>).')

    @contextlib.contextmanager
    def limited_user(self, vhost: str, *permissions: str) -> Iterator[str]:
        """One with the password "secret", and these permissions: configure, write, read."""
        name = f"limited-{vhost}"
        self.ctl("add_user", name, "secret")
        self.ctl("set_permissions", "-p", vhost, name, *permissions)
        yield name
        self.ctl("delete_user", name)

    def settings(self, vhost: str, **changes: Any) -> str:
        """Settings of an AMQP connection, as JSON."""
        return json.dumps({
            "host": self.host, "port": self.port, "user": self.user,
            "password": self.password, "vhost": vhost, **changes,
        })  # fmt: skip

    @property
    def ca_file(self) -> str:
        return str(self._directory / "ca.pem")

    def _configuration(self) -> str:
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "loopback_users.guest = false",
            "log.console = false",
            "disk_free_limit.absolute = 1MB",
            f"max_message_size = {128 * 1024 * 1024}",  # 16 MiB from 4.0 on
        ]
        if self._address:
            lines.append(f"listeners.tcp.2 = {self._address}:{self.port}")
        if self.tls_port:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self._directory / 'ca.pem'}",
                f"ssl_options.certfile = {self._directory / 'server.pem'}",
                f"ssl_options.keyfile = {self._directory / 'server.key'}",
                "ssl_options.verify = verify_none",
            ]
        return "\n".join(lines) + "\n"


class ForeignBroker(Broker):
    """A broker named by `CALLBOARD_TEST_AMQP`: used, never started, stopped or configured."""

    def __init__(self, url: str) -> None:
        parameters: Any = pika.URLParameters(url)
        self.host, self.port = parameters.host, parameters.port
        self.user = parameters.credentials.username
        self.password = parameters.credentials.password
        self.vhost: str = parameters.virtual_host

    def add_vhost(self) -> str:
        return self.vhost

    def delete_vhost(self, name: str) -> None:
        """It is not ours."""

    def stop(self) -> None:
        """Nor is the broker."""


class Admin:
    """Another client of the broker: declares, publishes, counts."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        credentials = pika.PlainCredentials(broker.user, broker.password)
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(broker.host, broker.port, vhost, credentials)
        )
        self.channel: Any = self.connection.channel()
        self.channel.confirm_delivery()

    def declare(self, queue: str, **arguments: Any) -> None:
        self.channel.queue_declare(queue, durable=True, arguments=arguments)

    def publish(self, queue: str, *bodies: bytes, **properties: Any) -> None:
        for body in bodies:
            self.channel.basic_publish("", queue, body, pika.BasicProperties(**properties))

    def ready(self, queue: str) -> int:
        """Without those that a consumer holds."""
        count: int = self.channel.queue_declare(queue, passive=True).method.message_count
        return count


class RawProperties(pika.BasicProperties):
    """Properties that no client library would write, or read."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw

    def encode(self) -> list[bytes]:
        return [self.raw]

    @classmethod
    def late(cls) -> RawProperties:
        """With a date past the year 9999: milliseconds where seconds are due."""
        return cls(join({"headers": table([(b"when", b"T" + (2**48).to_bytes(8, "big"))])}))

    @classmethod
    def deep(cls) -> RawProperties:
        """With arrays nested 2,000 deep."""
        value = b"V"
        for _ in range(2000):
            value = b"A" + len(value).to_bytes(4, "big") + value
        return cls(join({"headers": table([(b"deep", value)]), "message_id": b"\2id"}))


def make_certificates(directory: Path) -> None:
    """An authority of our own, and a certificate by it for the name "localhost" alone."""
    subject = directory / "subject"
    subject.write_text("subjectAltName=DNS:localhost\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca"
        " -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile subject -out server.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )


def _inside(version: str | None, pattern: str) -> Path | None:
    """The last of what matches, as it is named in the root of the version."""
    found = sorted(root(version).glob(pattern))
    return Path("/", found[-1].relative_to(root(version))) if found else None


def _nothing() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE, start_new_session=True)
    process.communicate()
    return process
