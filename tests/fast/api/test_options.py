"""Options: every spelling of them, their defaults, and the table they come to."""

from typing import Any

import pytest

from actors import Actions, AMQPRouteOptions, Events, Options, Retry, RouteOptions
from actors.api.options import TimerOptions, compile_table, policy_of
from actors.errors import (
    ConfigurationError,
    HandlerCrashed,
    InvalidMessage,
    UndecodableMessageException,
)
from actors.logic.settlement.failure import Outcome, policy_for


def test_the_defaults_are_those_of_the_documents() -> None:
    options = RouteOptions()
    assert (options.bulk_size, options.bulk_flush_interval) == (1, 60.0)
    assert (options.concurrency, options.in_flight) == (1, None)
    assert (options.bulk_bytes, options.timeout, options.max_crashes) == (16 * 2**20, 1500.0, 3)
    assert (options.max_messages, options.max_memory) == (None, None)
    assert (options.on_success, options.on_exception) == (Actions.ACK, None)


def test_enum_keys_and_keywords_are_one_schema() -> None:
    by_enum: dict[Any, Any] = {Options.BULK_SIZE: 256, Events.ON_EXCEPTION: Actions.REJECT}
    by_keyword = RouteOptions(bulk_size=256, on_exception=Actions.REJECT)
    assert RouteOptions(**by_enum) == by_keyword
    assert all(
        option in RouteOptions.model_fields or option in TimerOptions.model_fields
        for option in [*Options, *Events]
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"bulk_size": -1}, "option bulk_size: input should be greater than or equal to 1, not -1"),
        ({"bulk_size": 0}, "option bulk_size: input should be greater than or equal to 1, not 0"),
        ({"bulk_size": True}, "option bulk_size: input should be a valid integer, not True"),
        ({"bulk_size": "9"}, "option bulk_size: input should be a valid integer, not '9'"),
        (
            {"bulk_flush_interval": 0},
            "option bulk_flush_interval: input should be greater than 0, not 0",
        ),
        (
            {"timeout": float("inf")},
            "option timeout: input should be a finite number, not inf",
        ),
        (
            {"order_by": "age"},
            """option order_by: must be "routing_key" or "header:age", not 'age'""",
        ),
        (
            {"order_by": "header:"},
            """option order_by: must be "routing_key" or "header:NAME", not 'header:'""",
        ),
        (
            {"on_success": "ack"},
            "option on_success: input should be an instance of Actions, not 'ack'",
        ),
        (
            {"on_exception": {ValueError: 3}},
            "option on_exception: must be an action, a Retry, or {exception class: either},"
            " not {<class 'ValueError'>: 3}",
        ),
        (
            {"on_exception": {"ValueError": Actions.ACK}},
            "option on_exception: must name exception classes, and 'ValueError' is none,"
            " not {'ValueError': <Actions.ACK: 'ack'>}",
        ),
    ],
)
def test_a_bad_value_is_one_line_that_names_option_and_value(
    values: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RouteOptions(**values)
    assert str(caught.value) == line


def test_an_unknown_option_is_told_with_the_valid_ones() -> None:
    misspelt: dict[str, Any] = {"bulk_sise": 2}
    with pytest.raises(ConfigurationError, match=r"^unknown option 'bulk_sise'; valid: bulk_size,"):
        RouteOptions(**misspelt)
    of_timers: dict[str, Any] = {Options.SINGLETON: True}
    with pytest.raises(ConfigurationError, match="unknown option 'singleton'; valid: "):
        AMQPRouteOptions(**of_timers)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"attempts": -1}, "Retry: attempts must be 0 or more, not -1"),
        ({"attempts": 2.5}, "Retry: attempts must be 0 or more, not 2.5"),
        ({"first": float("nan")}, "Retry: first must be 0 or more, not nan"),
        ({"factor": 0.5}, "Retry: factor must be 1 or more, not 0.5"),
        ({"cap": "1"}, "Retry: cap must be 0 or more, not '1'"),
        ({"jitter": 0.5}, "Retry: jitter must be True or False, not 0.5"),
        ({"delays": []}, "Retry: delays must be a list of seconds, not []"),
        ({"delays": "5"}, "Retry: delays must be a list of seconds, not '5'"),
        ({"delays": 5}, "Retry: delays must be a list of seconds, not 5"),
        ({"delays": [1, -1]}, "Retry: delays must be 0 or more, not -1"),
        ({"delays": [True]}, "Retry: delays must be 0 or more, not True"),
        ({"delays": [float("nan")]}, "Retry: delays must be 0 or more, not nan"),
        ({"delays": [1e12]}, "Retry: delays must be at most 315360000, not 1000000000000.0"),
        ({"delays": [1], "cap": 5.0}, "Retry: cap has no effect beside delays: name one"),
    ],
)
def test_a_bad_retry_is_one_line_too(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Retry(**values)
    assert str(caught.value) == line


@pytest.mark.parametrize("on_exception", [None, {KeyError: Actions.REJECT}, {}])
def test_exceptions_that_no_table_names_are_retried(
    on_exception: dict[type[BaseException], Actions] | None,
) -> None:
    table = compile_table(on_exception)
    assert policy_for(table, ValueError) == policy_of(Retry())
    assert policy_for(table, TimeoutError) == policy_of(Retry())
    assert policy_for(table, InvalidMessage).outcome is Outcome.DEAD_LETTER
    assert policy_for(table, HandlerCrashed).outcome is Outcome.DEAD_LETTER


def test_an_action_for_all_spares_what_can_never_succeed() -> None:
    table = compile_table(Actions.REJECT)
    assert policy_for(table, KeyError).outcome is Outcome.REJECT
    assert policy_for(table, TimeoutError).outcome is Outcome.REJECT
    assert policy_for(table, UndecodableMessageException).outcome is Outcome.DEAD_LETTER


def test_the_most_specific_class_decides() -> None:
    table = compile_table(
        {LookupError: Actions.ACK, KeyError: Retry(attempts=3), InvalidMessage: Actions.REJECT}
    )
    assert policy_for(table, KeyError).attempts == 3
    assert policy_for(table, IndexError).outcome is Outcome.ACK
    assert policy_for(table, ValueError).outcome is Outcome.RETRY
    assert policy_for(table, UndecodableMessageException).outcome is Outcome.REJECT


def test_a_retry_waits_longer_each_time_up_to_its_cap_and_ends_as_a_dead_letter() -> None:
    retry = Retry(attempts=4, first=1.0, cap=3.0, jitter=False)
    entry = policy_for(compile_table(retry), ValueError)
    assert [entry.apply(attempts) for attempts in (1, 2, 3, 4)] == [
        (Outcome.RETRY, 1.0),
        (Outcome.RETRY, 2.0),
        (Outcome.RETRY, 3.0),
        (Outcome.DEAD_LETTER, 0.0),
    ]


def test_a_retry_waits_as_its_delays_say_and_repeats_the_last() -> None:
    retry = policy_of(Retry(attempts=5, delays=[10, 30.5, 60], jitter=False))
    assert [retry.apply(attempts)[1] for attempts in (1, 2, 3, 4)] == [10, 30.5, 60, 60]
    assert retry.apply(5) == (Outcome.DEAD_LETTER, 0.0)
    assert retry.lasts == 10 + 30.5 + 60 + 60
    spread = policy_of(Retry(delays=[10]))
    waits = {spread.apply(1, bytes([n]))[1] for n in range(100)}
    assert all(9.0 <= wait <= 10.0 for wait in waits)
    assert len(waits) > 50
    assert repr(Retry(attempts=4, delays=[5, 60])) == (
        "Retry(attempts=4, jitter=True, delays=(5, 60))"
    )
