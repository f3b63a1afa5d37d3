"""Server-Sent Events: streams over HTTP, kept until they are settled."""

from actors.api.connector import Connector

SSE = Connector(
    kind="sse",
    schemes=("sse+http", "sse+https"),
    connection="actors.api.connections:SSEConnection",
    message="actors.connectors.sse.message:Event",
    client="actors.connectors.sse.connection:SSEClient",
    plain_text=True,
)
