"""The stages that play the actors.

Thespian reads its settings when it is imported, so they are set here, before any of
these modules can import it. With its own limits a sender goes deaf after 20 messages
that nobody took, and loses timers; ours are never reached, as credit comes first.
"""

import os

LOOPBACK = "127.0.0.1"

os.environ["THESPIAN_BASE_IPADDR"] = LOOPBACK
for _name, _value in {
    "THESPIAN_MAX_PENDING_TRANSMITS": "1000",
    "THESPIAN_MAX_QUEUED_TRANSMITS": "100000",
    "THESPIAN_QUEUED_TRANSMIT_UNBLOCK_THRESHOLD": "90000",
    "THESPIAN_TRANSMIT_TIMEOUT_PERIOD": "1:00",  # minutes:seconds
    "THESPLOG_FILE_MAXSIZE": "0",  # no log of its own in the temporary folder
}.items():
    os.environ.setdefault(_name, _value)
