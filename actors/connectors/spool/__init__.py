"""The embedded spool: durable queues in one SQLite file of this host."""

from actors.api.connector import Connector

SPOOL = Connector(
    kind="spool",
    schemes=("spool",),
    connection="actors.api.connections:SpoolConnection",
    message="actors.connectors.spool.message:SpoolMessage",
    client="actors.connectors.spool.connection:SpoolClient",
    publisher="actors.connectors.spool.publisher:SpoolPublisher",
    admin="actors.connectors.spool.admin:open_admin",
    jobs="actors.connectors.spool.job_store:SpoolJobs",
    lock="actors.connectors.spool.lock:of_spool",
    local=True,
    counts_waiting=True,
)
