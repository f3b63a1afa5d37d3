"""Queues, exchanges and bindings that a route declares before it consumes.

What exists is never changed: where it is unlike its declaration, the worker does not start.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from actors.api.schema import Schema
from actors.errors import ConfigurationError
from actors.logic.consuming.routing import IS_A_STREAM
from actors.logic.messages.entry import broken_rule, broken_text

Arguments = dict[str, Any]

#: The method of a channel that declares it, and its arguments.
Declaration = tuple[str, Arguments]


EXCHANGE_TYPES = ("direct", "fanout", "topic", "headers")


class Exchange(Schema):
    """An exchange of a broker."""

    noun: ClassVar[str] = "exchange setting"

    name: str
    type: str = "direct"  #: "direct", "fanout", "topic", "headers", or what a plugin adds
    durable: bool = True
    arguments: Arguments = Field(default_factory=dict)

    def __init__(self, name: str, type: str = "direct", **values: Any) -> None:
        super().__init__(**{"name": name, "type": type, **values})

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        return _named(name)

    @field_validator("type")
    @classmethod
    def _is_known(cls, type: str) -> str:
        if type not in EXCHANGE_TYPES and not type.startswith("x-"):
            known = ", ".join(EXCHANGE_TYPES)
            raise ValueError(f"must be one of {known}, or a plugin's, which begins with x-")
        return type


class Binding(Schema):
    """A way from an exchange to the queue that it is declared on."""

    noun: ClassVar[str] = "binding setting"

    exchange: str | Exchange  #: a name alone: it has to exist
    routing_key: str = ""
    arguments: Arguments = Field(default_factory=dict)

    def __init__(self, exchange: str | Exchange, routing_key: str = "", **values: Any) -> None:
        super().__init__(**{"exchange": exchange, "routing_key": routing_key, **values})

    @field_validator("exchange")
    @classmethod
    def _is_a_name(cls, exchange: str | Exchange) -> str | Exchange:
        return _named(exchange) if isinstance(exchange, str) else exchange

    @field_validator("routing_key")
    @classmethod
    def _is_carried(cls, key: str) -> str:
        return _carried(key)


class Queue(Schema):
    """A queue of a broker; in `app.route` it stands where otherwise its name does."""

    noun: ClassVar[str] = "queue setting"

    name: str
    quorum: bool = False  #: replicated, and counts how often a message came back
    durable: bool = True
    delivery_limit: int | None = Field(default=None, ge=1)  #: of a quorum queue
    dead_letter_exchange: str | Exchange | None = None  #: "" with a routing key: to that queue
    dead_letter_routing_key: str | None = None
    bindings: list[Binding] = Field(default_factory=list)
    arguments: Arguments = Field(default_factory=dict)  #: of RabbitMQ, "x-…": these come last

    def __init__(self, name: str, **values: Any) -> None:
        super().__init__(**{"name": name, **values})

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        return _named(name)

    @field_validator("dead_letter_exchange")
    @classmethod
    def _is_an_exchange(cls, exchange: str | Exchange | None) -> str | Exchange | None:
        return _named(exchange) if isinstance(exchange, str) and exchange else exchange

    @field_validator("dead_letter_routing_key")
    @classmethod
    def _is_carried(cls, key: str | None) -> str | None:
        return key if key is None else _carried(key)

    @model_validator(mode="after")
    def _is_no_stream(self) -> Self:
        if self.all_arguments.get("x-queue-type") == "stream":
            raise ConfigurationError(f"queue {self.name}: {IS_A_STREAM}")
        return self

    @property
    def all_arguments(self) -> Arguments:
        """With what it is declared."""
        given = {
            "x-queue-type": "quorum" if self.quorum else None,
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": _name(self.dead_letter_exchange),
            "x-dead-letter-routing-key": self.dead_letter_routing_key,
        }
        return {name: value for name, value in given.items() if value is not None} | self.arguments

    @property
    def dead_letters(self) -> bool:
        """Whether what is rejected goes somewhere."""
        return "x-dead-letter-exchange" in self.all_arguments

    @property
    def limited(self) -> bool:
        """Whether the broker itself gives up a message that came back too often."""
        return int(self.all_arguments.get("x-delivery-limit", 0)) > 0

    def declarations(self) -> list[Declaration]:
        """All of it, in the order in which it is to be declared."""
        ends = [self.dead_letter_exchange, *(binding.exchange for binding in self.bindings)]
        exchanges = [
            {
                "exchange": end.name, "exchange_type": end.type,
                "durable": end.durable, "arguments": end.arguments,
            }
            for end in ends if isinstance(end, Exchange)
        ]  # fmt: skip
        queue = {"queue": self.name, "durable": self.durable, "arguments": self.all_arguments}
        bindings = [
            {
                "queue": self.name, "exchange": _name(binding.exchange),
                "routing_key": binding.routing_key, "arguments": binding.arguments,
            }
            for binding in self.bindings
        ]  # fmt: skip
        return [
            *(("exchange_declare", exchange) for exchange in exchanges),
            ("queue_declare", queue),
            *(("queue_bind", binding) for binding in bindings),
        ]


def _named(name: str) -> str:
    if rule := broken_rule(name):
        raise ValueError(f"must be a name of {rule}")
    return name


def _carried(text: str) -> str:
    if rule := broken_text(text):
        raise ValueError(f"must be {rule}")
    return text


def _name(exchange: str | Exchange | None) -> str | None:
    return exchange.name if isinstance(exchange, Exchange) else exchange
