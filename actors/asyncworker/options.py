"""`asyncworker.options`."""

from actors.api.connections import RouteTypes
from actors.api.options import Actions, Events, Options, RouteOptions, TimerOptions

__all__ = ["Actions", "DefaultValues", "Defaultvalues", "Events", "Options", "RouteTypes"]


class DefaultValues:
    """The behaviour of routes on RabbitMQ and timers where nothing is declared."""

    BULK_SIZE = RouteOptions().bulk_size
    BULK_FLUSH_INTERVAL = RouteOptions().bulk_flush_interval
    ON_SUCCESS = RouteOptions().on_success
    ON_EXCEPTION = Actions.REQUEUE
    RUN_EVERY_MAX_CONCURRENCY = TimerOptions().max_concurrency


Defaultvalues = DefaultValues  #: its name until 0.5
