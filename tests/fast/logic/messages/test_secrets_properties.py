"""Passwords of URLs are masked whatever stands in them, and nothing else is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from actors.api.app import App
from actors.api.connections import AMQPConnection, SSEConnection, parse_connection
from actors.cli import invoke
from actors.errors import ConfigurationError
from actors.log import SECRETS, _forms, _named, name_secret, redact
from actors.logic.messages.secrets import masked, masked_url
from actors.publisher import Publisher

CANARY = "canary"
SCHEMES = (
    "amqp",
    "amqps",
    "postgres",
    "postgresql+asyncpg",
    "redis",
    "mongodb",
    "https",
    "sse+http",
)
SPECIAL = "'\" /,#?%[]@\\:;&=+(){}<>|~^`$!*\t\n"
PIECE = st.text(st.sampled_from(SPECIAL + "aZ09é") | st.characters(codec="utf-8"), max_size=8)
PASSWORD = st.builds(lambda before, after: f"{before}{CANARY}{after}", PIECE, PIECE)
#: Of every scheme; one with a slash is told from the path of a web page in settings alone.
USER = st.sampled_from(["u", "o'neil", "a,b", "me@corp.com", "first.last", "", "x-1"])
WRAPPED = st.sampled_from(
    ["{}", "at {}: refused", "'{}'", '{{"url": "{}"}}', "({})", "{}, a@b.org"]
)

#: What begins like a port and ends like one, or with a blank, is told from a port by nobody.
LIKE_A_PORT = re.compile(r"\d*(?:[/?#\s'\"`<>,;)\]}|\\…]|[.:](?:\s|$))")


@pytest.fixture(autouse=True)
def no_secret_is_named() -> Iterator[None]:
    """What one example has named must not help the next."""
    yield
    _forms.clear()
    _named.clear()


@given(st.sampled_from(SCHEMES), USER, PASSWORD, WRAPPED)
@example("amqp", "guest", f"12/{CANARY}", "{}")
@example("postgres", "u", f"p@s's\"w,o/r#d?%[x] {CANARY}", "{}")
@example("redis", "", f"a://{CANARY}", "at {}")
def test_a_password_in_a_text_is_masked(scheme: str, user: str, password: str, text: str) -> None:
    begins = LIKE_A_PORT.match(password)
    assume(not begins)
    assume(not re.search(r"[\"'][\s,:;)\]}]|\n\s|\n$|://", password))  # as a URL that has ended
    shown = masked(text.format(f"{scheme}://{user}:{password}@db.host:5/x"))
    assert CANARY not in shown
    assert "db.host:5/x" in shown or "b.org" in shown


@given(st.sampled_from(SCHEMES), st.sampled_from(["", "a/b", "guest", "o'neil", "a b"]), PASSWORD)
@example("amqp", "a/b", CANARY)
@example("amqp", "guest", f"12 {CANARY}")
@example("sse+http", "u", f"80/{CANARY}")
def test_a_text_that_is_a_url_is_shown_without_its_password(
    scheme: str, user: str, password: str
) -> None:
    shown = masked_url(f"{scheme}://{user}:{password}@h/")
    assert shown == f"{scheme}://{user.partition(':')[0]}:***@h/"


@given(PASSWORD)
@example(f"12/{CANARY}")
def test_settings_show_no_password_however_they_are_given(password: str) -> None:
    connection = AMQPConnection(host="h", user="u", password=password)
    event_stream = SSEConnection("https://h/", user="u", password=password)
    app = App("h", "u", password)
    for shown in (connection, event_stream, app, app.connections, [connection]):
        assert CANARY not in repr(shown) + str(shown)
    for text in (password, repr(password), json.dumps(password)):
        if set(SPECIAL) & set(password):
            assert CANARY not in redact(f"it was {text}, they say")


@given(st.sampled_from(["amqp", "amqps", "sse+https"]), st.sampled_from(["u", "a/b"]), PASSWORD)
@example("amqp", "u", f"p@ss/{CANARY}")
@example("amqp", "u", f"12/{CANARY}")
@example("amqp", "a/b", CANARY)
def test_a_url_is_read_as_it_was_meant_or_refused_without_its_password(
    scheme: str, user: str, password: str
) -> None:
    refused = ""
    try:
        connection = parse_connection(f"{scheme}://{user}:{password}@h/")
    except ConfigurationError as error:
        refused = str(error)
    if refused:
        assert CANARY not in refused
        assert "percent-encoded" in refused
    else:
        assert isinstance(connection, AMQPConnection | SSEConnection)
        assert connection.password.get_secret_value() == unquote(password)


def given_as(source: str, url: str, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Flags, after what else the source wants is done."""
    file = folder / "given"
    match source:
        case "flag":
            return ["--connection", url]
        case "named":
            return ["--connection", f"broker={url}"]
        case "variable":
            patch.setenv("CALLBOARD_CONNECTION", url)
        case "file":
            file.write_text(url)
            patch.setenv("CALLBOARD_CONNECTION_FILE", str(file))
        case "url for a file":
            patch.setenv("CALLBOARD_CONNECTION_FILE", url)
        case "toml":
            file.write_text(f"connection = {json.dumps(url)}")
            return ["--config", str(file)]
    return []


@pytest.mark.parametrize("source", ["flag", "named", "variable", "file", "url for a file", "toml"])
@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:hun'ter2@127.0.0.1:1/?bogus=1",
        'amqp://guest:hun"ter2@127.0.0.1:1/?bogus=1',
        "amqp://guest:hun ter2@127.0.0.1:1/",
        "amqp://guest:hun%ter2@127.0.0.1:1/",
        "amqp://guest:hun[ter2@127.0.0.1:1/",
        "amqp://guest:hun#ter2@127.0.0.1:1/",
        "amqp://guest:hun?ter2@127.0.0.1:1/",
        "amqp://guest:hun@/ter2@127.0.0.1:1/",
        "amqp://guest:hun\nter2@127.0.0.1:1/",
        "amqp://o'neil:ter2@127.0.0.1:1/?bogus=1",
        "amqp://a/b:ter2@127.0.0.1:1/",
        "amqp://guest:12/ter2@127.0.0.1:1/",
        "sse+http://u:hun'ter2@127.0.0.1:1/x#y",
        "postgres://u:hun'ter2@127.0.0.1:1/x",
        "amqp:guest:ter2@127.0.0.1",
        "guest:ter2@127.0.0.1",
    ],
)
def test_a_connection_that_cannot_be_read_is_told_without_its_password(
    source: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "secretive.py").write_text("from actors import App\napp = App()\n")
    arguments = given_as(source, url, tmp_path, monkeypatch)
    assert invoke(["check", "secretive", "--app-dir", str(tmp_path), *arguments]) == 78
    assert "ter2" not in capsys.readouterr().err


URL = "amqp://me:S3cretPw@127.0.0.1:5672/"


@pytest.mark.parametrize(
    "declare",
    [
        lambda: App(URL),
        lambda: App(host=URL),
        lambda: App("me:S3cretPw@127.0.0.1"),
        lambda: AMQPConnection(host=URL),
        lambda: AMQPConnection(hostname=URL),
        lambda: AMQPConnection(host="127.0.0.1:5672"),
        lambda: AMQPConnection(host=5, password="S3cretPw"),
        lambda: AMQPConnection(host="h", password=["S3cretPw"]),
        lambda: SSEConnection(URL),
        lambda: SSEConnection("https://me:S3cretPw@h/"),
        lambda: Publisher("me:S3cretPw@h"),
        lambda: Publisher("amqp://guest:p@ss/S3cretPw@127.0.0.1/"),
        lambda: Publisher("amqp://me:S3cretPw"),
        lambda: Publisher(f"spool:{URL}"),
    ],
)
def test_a_url_where_something_else_is_expected_is_refused_and_not_shown(declare: object) -> None:
    assert callable(declare)
    with pytest.raises(ConfigurationError) as refused:
        declare()
    assert "S3cretPw" not in redact(str(refused.value))
    assert "connection" in str(refused.value)


@pytest.mark.parametrize("flag", ["--health", "--listen", "--join"])
@pytest.mark.parametrize("url", [URL, "https://me:S3cretPw@h:80", "me:S3cretPw@h:80"])
def test_an_address_is_no_url(flag: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "app", flag, url]) == 78
    error = capsys.readouterr().err
    assert f"setting {flag[2:]}: must be HOST:PORT" in error
    assert "S3cretPw" not in error


@pytest.mark.parametrize(
    "text",
    [
        '{"mail": "a@b.org", "url": "https://example.com:8080/x", "to": ["bob@example.org"]}',
        '{"u":"amqp://host:5672/","m":"bob@x.org"}',
        "mail bob@example.com about amqp://host:5672/ and amqp://me@host:5672/vhost",
        "amqp://host:5672/ refused; mail bob@example.org",
        "https://example.com/a?b=c contact me@x.org",
        "https://medium.com/@user/post",
        "http://localhost:9200/users/bob@example.com",
        "http://localhost:9200/users?mail=bob@example.com",
        "http://host:8080: refused by a@b",
        "http://[::1]:8080/x bob@example.com",
        "spool:///data/x@y and file:///a:b@c",
        "docker://image:tag, gs://bucket/key",
        "connection setting password: must be a string; give user= and password= beside it",
        "unexpected token ')'",
        "@app.route(['q'])\ndef f(): ...",
        "12:00:01 a@b: x",
    ],
)
def test_what_is_no_secret_is_not_masked(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AMQPConnection(password='S3cret', x=1)", "AMQPConnection(password='***', x=1)"),
        ('{"password": "S3\\"cret", "a": 1}', '{"password": "***", "a": 1}'),
        ("DB_PASSWORD=S3cret make", "DB_PASSWORD=*** make"),
        ("GET https://h/s?token=S3cret&from=1", "GET https://h/s?token=***&from=1"),
        ("Authorization: Bearer S3.cret", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic S3cret'}", "{'authorization': 'Basic ***'}"),
        ("input_value='postgres://u:S3cr...'", "input_value='postgres://u:***'"),
        ("'amqp://u:S3@h/', 'bob@example.org'", "'amqp://u:***@h/', 'bob@example.org'"),
        ("client_secret='S3cret'", "client_secret='***'"),
        ("SECRET_KEY = 'S3cret'", "SECRET_KEY = '***'"),
        ("aws_secret_access_key=S3cret x", "aws_secret_access_key=*** x"),
        ('{"private_key": "S3cret"}', '{"private_key": "***"}'),
        ("db_pwd=S3cret, x", "db_pwd=***, x"),
    ],
)
def test_a_secret_is_known_by_its_name_too(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a" * 20_000 + " token",
        "a" * 20_000 + "://",
        "password" * 3_000,
        "password" + " " * 20_000,
        "password='" * 2_000,
        "authorization" + " " * 20_000,
        "://" * 6_000,
        "a://b:" * 3_000,
        "http://u:p@h/a " * 1_500,
        "https://" + "@:/" * 6_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_long_text_is_looked_through_in_time_that_grows_with_its_length(text: str) -> None:
    began = time.process_time()
    masked(text)
    assert time.process_time() - began < 5  # a hundredth of that; a square would take minutes


def test_the_latest_secrets_are_remembered_and_those_in_use_stay() -> None:
    name_secret("in-use-1")
    for number in range(3 * SECRETS):
        name_secret(f"token-{number}")
        name_secret("in-use-1")
    assert redact(f"in-use-1 token-{3 * SECRETS - 1} token-0") == "*** *** token-0"
    assert len(_forms) == SECRETS


@pytest.mark.parametrize("word", ["guest", "password", "orders", "a1", "", "12345678"])
def test_a_password_that_is_a_common_word_hides_no_other_words(word: str) -> None:
    AMQPConnection(host="h", password=word)
    text = "guest, your password of route orders: a1, 12345678"
    assert redact(text) == text
