"""What others wrote moves no cursor and hides nothing on a line."""

import sys
import unicodedata

import pytest

from actors.logic.messages.plain import plain

HOSTILE = {
    "C0": "\x1b[2J\x07\r\n\t\x08\x00",
    "DEL": "\x7f",
    "C1": "\x9b31m\x85\x90",
    "bidirectional": "\u202e\u2066\u200f\u061c",
    "without width": "\u200b\u200d\u2060\ufeff\u00ad",
    "fillers": "\u3164\uffa0\u115f\u034f\ufe0f\U000e0100",
    "separators": "\u2028\u2029",
    "tags": "\U000e0041",
    "lone surrogates": "\ud800\udfff",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_shows_nothing_of_itself_is_escaped(text: str) -> None:
    shown = plain(f"a{text}b")
    assert shown.isascii()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_no_character_of_a_kind_that_commands_is_left() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = {unicodedata.category(char) for char in plain(every)}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("text", ["", "order 1: «fine», naïve, 名前, שלום, €", "a\\x1b"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_what_is_plain_already_is_not_changed_again() -> None:
    assert plain(plain("\x1b[2J")) == plain("\x1b[2J")
