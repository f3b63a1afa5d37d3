"""The fixtures for whole systems, in this tier too."""

from tests.integration.conftest import own_rabbitmq, place, rabbitmq, run, spool, stage_vhost

__all__ = ["own_rabbitmq", "place", "rabbitmq", "run", "spool", "stage_vhost"]
