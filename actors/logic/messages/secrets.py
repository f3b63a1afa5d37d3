"""Secrets in texts, found by their form: the password of a URL, the value of a `password=`.

A URL in running text has no certain end, for its password may hold blanks, quotes, slashes and
'@' that nobody encoded. Where a text can be read in two ways, the one that hides more counts,
unless it is a URL without a password that an e-mail address follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MASK = "***"

#: Characters after `://` within which a password ends.
ZONE = 400

#: How many `://` after that one are tried as the beginning of the next URL.
NEXT = 4

# Every pattern is searched for in texts of any length: none may look far ahead from each place.

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})?://")

#: Host and port and nothing of a user: what follows ends it.
_AUTHORITY = re.compile(
    r"(?P<host>\[[\w:.%]*\]|[\w.-]+)(?::(?P<port>\d{0,5}))?"
    r"(?=$|[/?#\s'\"`<>,;)\]}|\\…]|[.:](?:\s|$))"
)
_HOST = re.compile(r"[\w\[]")
_NAMES = re.compile(r"\w+['\",]\w+:")  #: people, rather than hosts
_CUT = re.compile(r"\.\.\.|…")
_NUMBER = re.compile(r"\d{1,5}(?=[/?#\s]|$)")

#: Ports of web servers: with one of these a URL is believed to have no user.
_WEB_PORTS = re.compile(r"80|443|\d{4,5}")

#: Without any of these a text holds no secret: a look that costs next to nothing.
_HINTS = ("://", "passw", "pwd", "passphrase", "private", "secret", "token", "api",
          "authorization", "key=", "auth=", "sig")  # fmt: skip

#: The end of a name: what stands before it does not matter.
_NAME = (
    r"(?:password|passwd|pwd|passphrase|secret|api[_-]?key|secret[_-]?(?:access[_-]?)?key"
    r"|private[_-]?key|access[_-]?token|auth[_-]?token)\b"
)
_QUOTED = r"(?P<quote>b?(?P<mark>[\"']))(?:\\.|(?!(?P=mark)).)*(?P<end>(?P=mark)?)"
_PAIR = re.compile(rf"(?P<name>{_NAME}(?:[\"']\s*:|\s*=)\s*){_QUOTED}", re.I | re.S)
_BARE = re.compile(
    rf"(?P<name>{_NAME}=|[?&](?:token|key|sig|signature|auth)=)[^\s&,;)\"'\]}}]+", re.I
)
_HEADER = re.compile(
    r"(?P<name>authorization[\"']?\s*[:=]\s*(?:b(?=[\"']))?[\"']?(?:(?:bearer|basic|token)\s+)?)[^\s\"',}]+",
    re.I,
)


def masked(text: str) -> str:
    """The text with what looks like a secret in it masked."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    if "://" in text:
        text = _mask_urls(text)
    text = _PAIR.sub(rf"\g<name>\g<quote>{MASK}\g<end>", text)
    text = _BARE.sub(rf"\g<name>{MASK}", text)
    return _HEADER.sub(rf"\g<name>{MASK}", text)


def masked_url(url: str) -> str:
    """A text that is to be one URL and nothing else, without password, query and fragment."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        scheme, rest = "", url
    user, at, place = rest.rpartition("@")
    place = re.split(r"[?#]", place)[0]
    if at:
        name, has_password, _ = user.partition(":")
        user = f"{name}:{MASK}@" if has_password and colon else f"{name if colon else MASK}@"
    elif colon and not _AUTHORITY.match(place):
        name, has_password, _ = place.partition(":")
        place = f"{name}:{MASK}" if has_password else name
    return f"{scheme}{colon}{user}{place}"


def _mask_urls(text: str) -> str:
    shown: list[str] = []
    done = 0
    for begin, end in _passwords(text):
        shown += [text[done:begin], MASK]
        done = end
    return "".join((*shown, text[done:]))


def _passwords(text: str) -> Iterator[tuple[int, int]]:
    """Where the passwords of URLs begin and end."""
    found = list(_SCHEME.finditer(text))
    done = 0
    for index, match in enumerate(found):
        start = match.end()
        if start < done or text.startswith("/", start):
            continue  # within the password of the one before, or a file
        before = text[match.start() - 1 : match.start()]
        quote = before if before and before in "\"'`" else ""
        authority = _AUTHORITY.match(text, start)
        for other in (*found[index + 1 : index + 1 + NEXT], None):
            stop = min(other.start() if other else len(text), start + ZONE)
            zone = text[start:stop]
            if span := _password(zone, (match[1] or "").lower(), quote, authority):
                done = start + span[1]
                yield start + span[0], done
            if span or authority or stop == start + ZONE:
                break  # else the next `://` may stand in this one's password


def _password(
    zone: str, scheme: str, quote: str, authority: re.Match[str] | None
) -> tuple[int, int] | None:
    """Begin and end of the password in what follows `://`."""
    colon = zone.find(":")
    if colon < 0 or (authority and not _is_a_user(_run(zone, quote), scheme, authority)):
        return None
    if 0 <= zone.find("@") < colon and _NUMBER.match(zone, colon + 1):
        zone = _run(zone, quote)  # user@host:port, unless another '@' follows at once
    ends = [match.start() for match in re.finditer("@", zone) if match.start() > colon]
    ends = [end for end in ends if _HOST.match(zone, end + 1)]
    if not ends:
        cut = _CUT.search(zone, colon)  # somebody shortened the URL
        return (colon + 1, cut.end()) if cut and not re.search(r"\s", zone[: cut.start()]) else None
    last = ends[0]
    for end in ends[1:]:
        if _has_ended(zone[last + 1 : end], quote):
            break
        last = end
    return colon + 1, last


def _is_a_user(run: str, scheme: str, authority: re.Match[str]) -> bool:
    """Whether what looks like a host is the beginning of a user or a password after all."""
    colon = run.find(":")
    if not authority["port"] and (scheme not in ("http", "https") or _NAMES.match(run)):
        return 0 <= colon < len(run) - 1
    return 0 <= colon < run.rfind("@") and not _is_of_the_web(run, scheme, authority)


def _run(zone: str, quote: str) -> str:
    """The zone up to its first blank, or to the quote that closes it."""
    run = re.split(r"\s", zone, maxsplit=1)[0]
    return re.split(rf"{quote}(?=[,:;)\]}}]|$)", run, maxsplit=1)[0] if quote else run


def _is_of_the_web(zone: str, scheme: str, authority: re.Match[str]) -> bool:
    """Whether it is an address of the web whose path or query holds an '@'."""
    if scheme not in ("http", "https"):
        return False
    before = zone[: zone.rfind("@")]
    if "?" in before or "=" in before or before.endswith("/"):
        return True
    port = authority["port"]
    return bool(_WEB_PORTS.fullmatch(port)) if port else "." in authority["host"]


def _has_ended(between: str, quote: str) -> bool:
    """Whether a URL is over in what stands between one '@' and the next."""
    if quote and re.search(rf"{quote}(?=[\s,:;)\]}}]|$)", between):
        return True
    return bool(re.search(r"\n(?:\s|$)", between))  # the next line of a traceback
