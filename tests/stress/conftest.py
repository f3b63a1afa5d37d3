"""The fixtures for whole systems, in this tier too."""

from tests.integration.conftest import place, rabbitmq, run, spool, stage_vhost

__all__ = ["place", "rabbitmq", "run", "spool", "stage_vhost"]
