"""The connections that a user declares, each also as a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from actors.api.connector import connector_for, connectors
from actors.api.options import FailCallback
from actors.api.outlet import ConnectionOutlet, Outlet, PutOptions
from actors.api.schema import Schema
from actors.api.state_dir import state_dir
from actors.errors import ConfigurationError
from actors.log import name_secret
from actors.logic.consuming.routing import stream_url
from actors.logic.messages.entry import broken_text
from actors.logic.messages.secrets import masked_url

UNREADABLE = (
    "cannot be read: is the port a number of at most 65535, and is each of '/?#@%[]' and each"
    " blank in user and password, and each '@' after them, percent-encoded, as %40 for '@'?"
)
NO_URL = (
    "must be a host alone: give port=, user=, password= and vhost= beside it, or the URL as"
    " --connection or CALLBOARD_CONNECTION"
)


class RouteTypes(StrEnum):
    """The connections that may serve a route; the values are their kinds."""

    AMQP_RABBITMQ = "amqp"
    SSE = "sse"
    SPOOL = "spool"
    HTTP = "http"  #: known, so that it can be refused by name


class Connection(Schema, Outlet):
    """The base of all connections. The app gives a name to those that have none."""

    noun: ClassVar[str] = "connection setting"
    kind: ClassVar[str]  #: of the client that serves it
    default_name: ClassVar[str]
    endpoint: ClassVar[frozenset[str]]  #: the fields that a URL stands for

    name: str = Field(default="", pattern=r"^[\w.-]*$")
    #: Unsettled messages for each queue; None: enough for two bulks at every handler.
    prefetch_count: int | None = Field(default=None, ge=1, le=65535)
    connection_fail_callback: FailCallback | None = None
    #: Of a running process: where the connection is by now. None: where it was declared to be.
    _outlet: ConnectionOutlet | None = PrivateAttr(default=None)

    @field_validator("host", "user", "password", "url", check_fields=False)
    @classmethod
    def _is_whole(cls, value: str | SecretStr) -> str | SecretStr:
        try:
            (value.get_secret_value() if isinstance(value, SecretStr) else value).encode()
        except UnicodeEncodeError:  # bytes of a variable, say, that were no UTF-8
            raise ValueError("must be whole characters") from None
        return value

    @model_validator(mode="after")
    def _names_its_secrets(self) -> Self:
        secret = getattr(self, "password", None)
        if isinstance(secret, SecretStr):
            name_secret(secret.get_secret_value())
        return self

    def lead_to(self, outlet: ConnectionOutlet | None) -> None:
        """What is put into this connection goes there from now on."""
        self._outlet = outlet

    def _begin(self, routing_key: str, body: bytes, options: PutOptions) -> Future[str]:
        if self._outlet is None:
            settings = self.as_json(getattr(self, "vhost", ""), {})
            self._outlet = ConnectionOutlet(self.kind, settings)
        return self._outlet._begin(routing_key, body, options)

    def moved_to(self, other: Connection) -> Connection:
        """This connection at the place of another: name and tuning stay, where they fit."""
        if type(other) is not type(self):
            # "rabbitmq", given for want of a name, would be a lie on a spool.
            keeps = self.name != self.default_name
            return other.model_copy(update={"name": self.name}) if keeps else other
        place = {field: getattr(other, field) for field in self.endpoint | other.model_fields_set}
        return self.model_copy(update=place | {"name": self.name})

    def as_json(self, vhost: str, paths: Mapping[str, Mapping[str, str]]) -> str:
        """The settings of its client, secrets included; `paths` with the headers of each."""
        raise NotImplementedError

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The connection that a URL of its connector stands for. Raises `ConfigurationError`."""
        raise NotImplementedError

    @staticmethod
    def place_of(settings: Mapping[str, Any]) -> str:
        """Its place, from what `as_json` wrote: a URL without secrets, for people."""
        raise NotImplementedError


class AMQPConnection(Connection):
    """A RabbitMQ broker. `hostname`, `username` and `prefetch` are good names as well."""

    kind: ClassVar[str] = "amqp"
    default_name: ClassVar[str] = "rabbitmq"
    endpoint: ClassVar[frozenset[str]] = frozenset(
        {"host", "port", "user", "password", "vhost", "ssl"}
    )
    aliases: ClassVar[Mapping[str, str]] = {
        "hostname": "host", "username": "user", "prefetch": "prefetch_count",
    }  # fmt: skip

    host: str = Field(repr=False)
    user: str = "guest"
    password: SecretStr = Field(default=SecretStr("guest"), repr=False)
    port: int | None = Field(default=None, ge=1, le=65535)  #: None: 5672, with TLS 5671
    vhost: str = "/"  #: of the routes that name none; "/fluentd" and "fluentd" are two
    ssl: bool | None = None  #: None: as the port says
    verify_ssl: bool = True
    ca_file: str = ""  #: empty: the authorities that the system trusts
    cert_file: str = ""
    key_file: str = ""
    heartbeat: int = Field(default=10, ge=0, le=65535)  #: seconds; 0: none
    connection_timeout: float = Field(default=10.0, gt=0)  #: seconds

    if TYPE_CHECKING:  # type checkers do not know of the other names

        def __init__(self, **values: Any) -> None: ...

    @model_validator(mode="after")
    def _is_a_host(self) -> Self:
        if not self.host:
            raise ConfigurationError("connection setting host: is empty: name the broker's host")
        # Not shown: where a URL stands in its place, it may hold a password.
        if re.search(r"[/@\s?#\0]|^[^:]*:[^:]*$", self.host):
            raise ConfigurationError(f"connection setting host: {NO_URL}")
        return self

    @field_validator("vhost", "user")
    @classmethod
    def _is_carried(cls, text: str) -> str:
        if rule := broken_text(text):
            raise ValueError(f"must be {rule}")
        return text

    @property
    def tls(self) -> bool:
        return self.port == 5671 if self.ssl is None else self.ssl

    def as_json(self, vhost: str, paths: Mapping[str, Mapping[str, str]]) -> str:
        return json.dumps({
            "name": self.name, "host": self.host, "port": self.port or (5671 if self.tls else 5672),
            "user": self.user, "password": self.password.get_secret_value(), "vhost": vhost,
            "ssl": self.tls, "verify": self.verify_ssl, "ca_file": self.ca_file,
            "cert_file": self.cert_file, "key_file": self.key_file, "heartbeat": self.heartbeat,
            "connection_timeout": self.connection_timeout,
        })  # fmt: skip

    @classmethod
    def from_url(cls, url: str) -> Self:
        parts = _split(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if taken := sorted(cls.endpoint & query.keys()):
            raise ConfigurationError(f"{taken[0]} belongs before the '?'")
        values: dict[str, Any] = {
            **query,
            "host": parts.hostname or "",
            "vhost": _decoded(parts.path.removeprefix("/")) or "/",
            "ssl": parts.scheme == "amqps",
        }
        if parts.port is not None:
            values["port"] = parts.port
        return cls.model_validate(values | _credentials(url), strict=False)

    @staticmethod
    def place_of(settings: Mapping[str, Any]) -> str:
        scheme = "amqps" if settings.get("ssl") else "amqp"
        vhost = settings["vhost"].lstrip("/")
        return f"{scheme}://{settings['user']}@{settings['host']}:{settings['port']}/{vhost}"


class SSEConnection(Connection):
    """A server of event streams; routes are paths below its URL, with its parameters too."""

    kind: ClassVar[str] = "sse"
    default_name: ClassVar[str] = "sse"
    endpoint: ClassVar[frozenset[str]] = frozenset({"url", "user", "password"})

    url: str = Field(repr=False)  # its query may carry a token
    user: str = ""
    password: SecretStr = Field(default=SecretStr(""), repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    checkpoint: str | None = None  #: path; None: in the state directory
    last_event_id: str | None = None  #: to begin after, where there is no checkpoint
    idle_timeout: float = Field(default=90.0, gt=0)  #: seconds without a byte
    verify_ssl: bool = True
    ca_file: str = ""  #: empty: the authorities that the system trusts

    def __init__(self, url: str, **values: Any) -> None:
        super().__init__(**{"url": url, **values})

    @model_validator(mode="after")
    def _is_http(self) -> Self:
        parts = _split(self.url)
        if parts.scheme not in ("http", "https"):
            raise ConfigurationError(
                f"connection setting url: must begin with http:// or https://, not {parts.scheme}:"
            )
        if parts.username is not None:
            raise ConfigurationError("connection setting url: give user= and password= beside it")
        return self

    def as_json(self, vhost: str, paths: Mapping[str, Mapping[str, str]]) -> str:
        return json.dumps({
            "name": self.name, "url": self.url, "user": self.user,
            "password": self.password.get_secret_value(), "headers": self.headers,
            "paths": {
                path: {"url": stream_url(self.url, path), "headers": dict(headers)}
                for path, headers in paths.items()
            },
            "checkpoint": self.checkpoint, "last_event_id": self.last_event_id,
            "idle_timeout": self.idle_timeout,
            "verify": self.verify_ssl and (self.ca_file or True),
        })  # fmt: skip

    @classmethod
    def from_url(cls, url: str) -> Self:
        parts = _split(url.removeprefix("sse+"))
        if not parts.hostname:
            raise ConfigurationError("names no host")
        clean = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return cls(clean.geturl(), **_credentials(url))

    @staticmethod
    def place_of(settings: Mapping[str, Any]) -> str:
        return f"sse+{settings['url'].partition('?')[0]}"


class SpoolConnection(Connection):
    """The embedded spool, one file on a local disk."""

    kind: ClassVar[str] = "spool"
    default_name: ClassVar[str] = "spool"
    endpoint: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str | Path | None = None  #: None: `spool.db` in the state directory

    def __init__(self, path: str | Path | None = None, **values: Any) -> None:
        super().__init__(**{"path": path, **values})

    @model_validator(mode="after")
    def _is_a_path(self) -> Self:
        if re.match(r"[\w+.-]+://|spool:", str(self.path or "")):
            raise ConfigurationError(
                "connection setting path: is a URL, and must be the path of a file; a URL is"
                " given as --connection or CALLBOARD_CONNECTION"
            )
        if "\0" in str(self.path or ""):
            raise ConfigurationError("connection setting path: holds a NUL, which no path can")
        return self

    @property
    def file(self) -> Path:
        return Path(self.path).absolute() if self.path else state_dir() / "spool.db"

    def as_json(self, vhost: str, paths: Mapping[str, Mapping[str, str]]) -> str:
        return json.dumps({"name": self.name, "path": str(self.file)})

    @classmethod
    def from_url(cls, url: str) -> Self:
        parts = _split(url)
        if parts.netloc:
            raise ConfigurationError("a spool is a file of this host: spool:///path")
        return cls(_decoded(parts.path) or None)

    @staticmethod
    def place_of(settings: Mapping[str, Any]) -> str:
        return f"spool://{settings['path']}"


def parse_connection(url: str, name: str | None = None) -> Connection:
    """The connection that a URL stands for, named by its kind where no name is given.

    Parameters of an `amqp` URL are fields of `AMQPConnection`:
    `amqps://user:password@host/vhost?ca_file=/etc/ca.pem&heartbeat=20`.
    Raises `ConfigurationError`, which shows the URL without its secrets.
    """
    try:
        connection = _from_url(url)
    except ConfigurationError as error:
        shown = masked_url(url)
        raise ConfigurationError(f"connection {shown!r}: {error}") from None
    connection.name = name or connection.default_name
    return connection


def split_name(argument: str) -> tuple[str, str]:
    """Name and URL of `[NAME=]URL`."""
    match = re.match(r"([\w.-]+)=(.*)", argument, re.DOTALL)
    return (match[1], match[2]) if match else ("", argument)


def _from_url(url: str) -> Connection:
    scheme, colon, _ = url.partition(":")
    connector = connector_for(scheme) if colon else None
    if connector is None:
        known = ", ".join(
            f"{scheme}:" if one.local else f"{scheme}://"
            for one in connectors()
            for scheme in one.schemes
        )
        raise ConfigurationError(f"is no URL of a connection; valid: {known}")
    made: Connection = connector.load("connection").from_url(url)
    return made


def _credentials(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    given = {"user": parts.username, "password": parts.password}
    return {field: _decoded(value) for field, value in given.items() if value is not None}


def _decoded(text: str) -> str:
    """A part of a URL as it was meant; what no encoder writes is not guessed at."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ConfigurationError(UNREADABLE)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigurationError(UNREADABLE) from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:  # whose text may show a piece of the password
        raise ConfigurationError(UNREADABLE) from None
    # An '@' after the first '/' or '?' is most often one of a password with such a character.
    if parts.fragment or re.search(r"\s|://(?=[^@]*:).*[/?].*@", url):
        raise ConfigurationError(UNREADABLE)
    return parts
