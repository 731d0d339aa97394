"""A worker that dies between taking a message from the broker and noting there that it has it.

``python -m tests.integration.jobs.doomed``: the worker itself, with the one step of kombu that notes a delivery
replaced. The message is then in no queue and in no list of unacknowledged ones.
"""

import os
import signal
import sys

from kombu.transport.redis import QoS

from services.worker import main


def die(qos: QoS, message: object, delivery_tag: str) -> None:
    """As the power cord would."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


QoS.append = die

if __name__ == "__main__":
    sys.exit(main())
