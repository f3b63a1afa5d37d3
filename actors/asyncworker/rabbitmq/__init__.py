"""`asyncworker.rabbitmq`."""

from actors.asyncworker.rabbitmq.message import RabbitMQMessage
from actors.asyncworker.routes import AMQPRouteOptions

__all__ = ["AMQPRouteOptions", "RabbitMQMessage"]
