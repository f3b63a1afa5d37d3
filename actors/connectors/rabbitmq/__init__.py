"""RabbitMQ: one connection for each vhost, a channel for each queue."""

from actors.api.connector import Connector

RABBITMQ = Connector(
    kind="amqp",
    schemes=("amqp", "amqps"),
    connection="actors.api.connections:AMQPConnection",
    message="actors.connectors.rabbitmq.message:RabbitMQMessage",
    client="actors.connectors.rabbitmq.connection:RabbitMQClient",
    publisher="actors.connectors.rabbitmq.publishing.publisher:AMQPPublisher",
    admin="actors.connectors.rabbitmq.admin:BrokerAdmin",
    calls="actors.connectors.rabbitmq.calls:RabbitMQCalls",
    topics="actors.connectors.rabbitmq.topics:RabbitMQTopics",
    lock="actors.connectors.rabbitmq.lock:QueueLock",
    frames=True,
    broker=True,
)
