"""The smallest handler: logs what comes.

callboard run handlers.log:app --connection spool:
"""

from __future__ import annotations

import logging
from typing import Any

from actors import App, Message

app = App()
logger = logging.getLogger(__name__)


@app.route(["log"])
def log(messages: list[Message[Any]]) -> None:
    for message in messages:
        logger.info("%s", message.body)
