"""One HTTP request for an event stream: what is sent, and what the answer means."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from actors.errors import ConfigurationError, Fault
from actors.logic.consuming.routing import stream_url

MAX_REDIRECTS = 5
LONGEST_HOLD = 3600.0  #: seconds for which a server can keep us away

_CONNECT_TIMEOUT = 15.0
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TRY_AGAIN = frozenset((408, 425, 429))
_MISSING = frozenset((404, 410))
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]  #: scheme, host, port


class StreamLost(Exception):
    """The stream could not be had, or has ended; `hold` seconds the server wants to be left."""

    def __init__(self, cause: str, fault: Fault = Fault.UNREACHABLE, hold: float = 0.0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fault = fault
        self.hold = min(hold, LONGEST_HOLD)


class StreamOver(Exception):
    """The server says that there is nothing more to come (204): it is not asked again."""


class Target(NamedTuple):
    """The URL of a stream, and the secrets for it."""

    url: str
    headers: dict[str, str]  #: secrets among them: for the origin `home` alone
    home: Origin

    @property
    def key(self) -> str:
        """Names the stream in a file: a query may hold a token."""
        path, _, query = self.url.partition("?")
        return f"{path}?{sha256(query.encode()).hexdigest()[:16]}" if query else path


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """An `SSEConnection` as it travels in `PipelinePlan.settings`."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    paths: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  #: url, headers
    checkpoint: str | None = None  #: path; None: in the state directory
    last_event_id: str | None = None  #: where to begin while there is no checkpoint
    idle_timeout: float = 90.0  #: seconds without a byte, after which a stream is dead
    name: str = ""
    verify: bool | str = True  #: False: any certificate will do; a path: of the trusted ones

    def target(self, queue: str) -> Target:
        """The stream of a queue: a path below `url`, with the headers of its route."""
        path = self.paths.get(queue, {})
        headers = self.headers | path.get("headers", {})
        if self.user or self.password:
            pair = f"{self.user}:{self.password}".encode()
            headers = {"Authorization": "Basic " + b64encode(pair).decode()} | headers
        return Target(path.get("url") or stream_url(self.url, queue), headers, origin(self.url))


def http_client(settings: StreamSettings) -> httpx.AsyncClient:
    """Raises `ConfigurationError` where `verify` names no certificates."""
    timeout = httpx.Timeout(_CONNECT_TIMEOUT, read=settings.idle_timeout, pool=None)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(verify=_tls(settings.verify), timeout=timeout, limits=limits)


def _tls(verify: bool | str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError as error:
        raise ConfigurationError(f"verify={verify!r}: no certificates there: {error}") from None
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def open_stream(
    http: httpx.AsyncClient, target: Target, last_event_id: str
) -> httpx.Response:
    """Ask for a stream and follow redirects; the caller closes the response.

    Raises `StreamLost`, `StreamOver` and httpx's errors.
    """
    url = target.url
    for _ in range(MAX_REDIRECTS + 1):
        # Any header of the user's may be a secret: a redirect must not give it away.
        own = target.headers if origin(url) == target.home else {}
        request = http.build_request("GET", url, headers=request_headers(own, last_event_id))
        response = await http.send(request, stream=True)
        try:
            if response.status_code not in _REDIRECTS:
                check(response)
                return response
            url = _location(response)
        except BaseException:
            await response.aclose()
            raise
        await response.aclose()
    raise StreamLost(f"more than {MAX_REDIRECTS} redirects", Fault.REFUSED)


def request_headers(own: Mapping[str, str], last_event_id: str) -> list[tuple[bytes, bytes]]:
    headers = {
        "accept": "text/event-stream",
        "cache-control": "no-cache",
        # A compressed stream comes late, and could be of any size once it is open.
        "accept-encoding": "identity",
    }
    headers |= {name.lower(): value for name, value in own.items()}
    if last_event_id:
        headers["last-event-id"] = last_event_id
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def origin(url: str) -> Origin:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _location(response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    answer = f"answered {response.status_code}"
    if not location:
        raise StreamLost(f"{answer} without a location", Fault.REFUSED)
    target = response.url.join(location)
    if target.scheme not in _PORTS or not target.host:
        raise StreamLost(f"{answer} with a location that is not HTTP", Fault.REFUSED)
    return str(target.copy_with(username=None, password=None))


def check(response: httpx.Response) -> None:
    """Is it a stream? Raises `StreamLost`, `StreamOver`."""
    status = response.status_code
    if status == 204:
        raise StreamOver
    if status != 200:
        raise _refusal(response)
    content_type = response.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "text/event-stream":
        shown = repr(content_type[:100]) if content_type else "nothing"
        raise StreamLost(f"the content type is {shown}, not text/event-stream", Fault.REFUSED)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise StreamLost(f"the stream is compressed ({encoding[:100]!r})", Fault.REFUSED)


def _refusal(response: httpx.Response) -> StreamLost:
    status = response.status_code
    cause = f"answered {status} {response.reason_phrase[:100]}".rstrip()
    if status >= 500 or status in _TRY_AGAIN:
        hold = retry_after(response.headers.get("retry-after", ""), time.time())
        wait = f", to be asked again in {hold:g} s" if hold else ""
        return StreamLost(cause + wait, Fault.UNREACHABLE, hold)
    return StreamLost(cause, Fault.MISSING if status in _MISSING else Fault.REFUSED)


def retry_after(value: str, now: float) -> float:
    """Seconds of a `Retry-After`, given as such or as a date; 0 where it says nothing."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return min(float(value[:10]), LONGEST_HOLD)
    try:
        return min(max(parsedate_to_datetime(value).timestamp() - now, 0.0), LONGEST_HOLD)
    except (ValueError, OverflowError):
        return 0.0


def lost_by(error: Exception, idle_timeout: float) -> StreamLost:
    """What an error of httpx means."""
    if isinstance(error, httpx.ReadTimeout):
        return StreamLost(f"idle for {idle_timeout:g} s")
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StreamLost(f"certificate: {cause.verify_message}", Fault.REFUSED)
        cause = cause.__cause__ or cause.__context__
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    ours = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
    return StreamLost(text, Fault.REFUSED if isinstance(error, ours) else Fault.UNREACHABLE)
