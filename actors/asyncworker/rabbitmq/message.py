"""`asyncworker.rabbitmq.message`."""

from actors.api.kinds import RabbitMQMessage

__all__ = ["Message", "RabbitMQMessage"]

Message = RabbitMQMessage  #: its name in 0.2
