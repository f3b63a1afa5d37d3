"""`asyncworker.rabbitmq.message`."""

from actors.connectors.rabbitmq.message import RabbitMQMessage

__all__ = ["Message", "RabbitMQMessage"]

Message = RabbitMQMessage  #: its name in 0.2
