"""Hints that a worker holds when its connection to Redis is lost."""

from types import SimpleNamespace

import pytest
from kombu.transport import virtual
from kombu.transport.redis import Channel

import palimpsest.jobs.celery_app  # noqa: F401 - it is what makes hints be kept so


@pytest.mark.parametrize("connection", [None, SimpleNamespace(client=None)])
def test_hints_of_a_connection_that_is_gone_are_left_to_redis(connection):
    """Closed once and closed twice: kombu's own wants its address, and an AttributeError ends the worker."""
    qos = Channel.QoS(SimpleNamespace(connection=connection, do_restore=False))
    virtual.QoS.append(qos, SimpleNamespace(), "a tag")
    qos.ack("a tag")
    qos.restore_unacked()
    assert not qos._delivered
