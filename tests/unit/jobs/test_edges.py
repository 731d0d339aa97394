"""What stands around the store: payloads, broker addresses, hints without a broker, cheap imports."""

import subprocess
import sys
import threading

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.jobs.celery_app import broker_url, create_app
from palimpsest.jobs.hints import Hints
from palimpsest.jobs.payload import from_json, request_digest, to_json
from palimpsest.settings import Settings


def test_a_payload_is_read_back_by_its_type_name():
    request = decoding_pb2.GenerateBatchRequest(model="m", n=2, stop=["é"], logprobs=0)
    again = from_json("palimpsest.api.decoding.v1.GenerateBatchRequest", to_json(request))
    assert again == request
    assert request_digest("k", again) == request_digest("k", request)
    assert request_digest("k", request) != request_digest("other", request)


def test_a_type_is_found_without_importing_its_module_first():
    program = (
        "from palimpsest.jobs.payload import message_class; "
        "print(message_class('palimpsest.api.models.v1.Model').DESCRIPTOR.name)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "Model"


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("unix:///run/v.sock", "redis+socket:///run/v.sock"),
        ("unix:///run/v.sock?db=2", "redis+socket:///run/v.sock?virtual_host=2"),
        ("rediss://:secret@host:6379/1", "rediss://:secret@host:6379/1"),
    ],
)
def test_broker_addresses(redis_url: str, expected: str):
    assert broker_url(redis_url) == expected


def test_what_celery_must_never_do():
    conf = create_app(Settings(redis_url="redis://localhost")).conf
    assert conf.accept_content == ["json"]
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.worker_pool_start_method == "spawn"
    assert conf.worker_proc_alive_timeout >= 60


def test_hints_neither_block_nor_pile_up_without_a_broker():
    hints = Hints(Settings(redis_url="unix:///nowhere.sock"))
    started, go_on = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        go_on.wait(10)

    hints._thread.submit(stuck)
    started.wait(10)
    for n in range(5000):
        hints(str(n), "cpu")
    assert hints._thread._work_queue.qsize() == 1000
    hints.close()
    go_on.set()
    hints("late", "cpu")


def test_the_word_for_progress_costs_nothing():
    program = (
        "import sys, palimpsest.jobs, palimpsest.progress; "
        "print(sorted({'celery', 'redis', 'grpc', 'torch'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_a_message_of_another_type_has_its_own_digest():
    assert request_digest("k", StringValue(value="a")) != request_digest("k", StringValue(value="b"))
