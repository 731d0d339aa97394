"""The slow link: what is sent arrives, no faster than said, and whoever sends is held back."""

import socket
import threading
import time

import pytest

from palimpsest.embedded.link import Link
from tests.waiting import until


@pytest.fixture
def source():
    """A server that sends zeros as fast as it can; gives its address and how many it got rid of."""
    sent = [0]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            wanted = int(connection.recv(16))
            while sent[0] < wanted:
                sent[0] += connection.send(bytes(min(65536, wanted - sent[0])))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", sent
    listener.close()


def test_bytes_cross_at_the_links_rate_and_the_sender_is_held_back(source):
    target, sent = source
    with Link(8e6) as link:
        link.lead_to(target)
        host, _, port = link.target.rpartition(":")
        with socket.create_connection((host, int(port))) as end:
            began = time.monotonic()
            end.sendall(b"16000000")
            until(lambda: link.carried > 800_000, interval=0.001)
            ahead = sent[0] - link.carried
            received = 0
            while data := end.recv(1 << 20):
                received += len(data)
            seconds = time.monotonic() - began
    assert received == 16_000_000
    assert seconds >= 16_000_000 / 8e6 - 0.05  # never faster; slower is the machine's own affair
    assert ahead < 8_000_000, "the sender got rid of more than its own buffer holds"


def test_nothing_is_served_before_the_link_leads_somewhere():
    with Link(1e6) as link:
        host, _, port = link.target.rpartition(":")
        with socket.create_connection((host, int(port))) as end:
            assert end.recv(1) == b""
