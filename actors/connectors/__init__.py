"""The connectors: a folder for each kind of connection, and a line for each here.

A connector from elsewhere is registered by the module of the app that uses it, with
`actors.api.connector.register`.
"""

from actors.api.connector import register
from actors.connectors.rabbitmq import RABBITMQ
from actors.connectors.spool import SPOOL
from actors.connectors.sse import SSE

for _connector in (RABBITMQ, SPOOL, SSE):
    register(_connector)
