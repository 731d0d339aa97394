"""Keyword arguments become request messages, or complaints that name the field."""

import uuid

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.client.requests import build, short_fields


def generate(**fields):
    return build(decoding_pb2.GenerateRequest, fields, "generate()")


def register(**fields):
    return build(models_pb2.RegisterModelRequest, fields, "register_model()")


def test_scalars_lists_and_nested_dicts():
    request = generate(
        model="m", prompt="p", sampling={"temperature": 0.5, "seed": 0}, stop=["\n", "end"], n=3
    )
    assert request.sampling.temperature == 0.5
    assert request.sampling.HasField("seed")
    assert request.sampling.seed == 0
    assert list(request.stop) == ["\n", "end"]
    assert request.n == 3


def test_messages_are_taken_as_they_are():
    sampling = decoding_pb2.SamplingConfig(top_k=4)
    chat = decoding_pb2.ChatMessages(messages=[decoding_pb2.ChatMessage(role="user", content="c")])
    request = generate(model="m", sampling=sampling, chat=chat)
    assert request.sampling == sampling
    assert request.chat == chat


@pytest.mark.parametrize(
    "chat",
    [
        [{"role": "user", "content": "hello"}],
        {"messages": [{"role": "user", "content": "hello"}]},
        [decoding_pb2.ChatMessage(role="user", content="hello")],
    ],
)
def test_a_message_that_wraps_a_list_may_be_the_list(chat):
    assert generate(model="m", chat=chat).chat.messages[0].content == "hello"


def test_an_empty_nested_message_is_set():
    assert generate(model="m", tokens=[]).WhichOneof("input") == "tokens"


def test_none_leaves_a_field_unset():
    request = generate(model="m", prompt=None, chat=None, logprobs=None)
    assert request.WhichOneof("input") is None
    assert not request.HasField("logprobs")


@pytest.mark.parametrize("name", ["RELATION_FINE_TUNED", "fine_tuned", "FINE_TUNED", "fine-tuned"])
def test_enums_by_name(name):
    assert register(relation=name).relation == models_pb2.RELATION_FINE_TUNED


def test_enums_by_number():
    assert register(relation=models_pb2.RELATION_MERGED).relation == models_pb2.RELATION_MERGED


def test_an_unknown_enum_lists_the_choices():
    with pytest.raises(ValueError, match="fine_tuned, unlearned, merged, quantized"):
        register(relation="adopted")


def test_maps():
    assert dict(register(labels={"a": "b"}).labels) == {"a": "b"}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"modle": "m"}, r"no field modle; did you mean model\?"),
        (
            {"sampling": {"temprature": 1}},
            r"no field sampling.temprature; did you mean sampling.temperature\?",
        ),
        (
            {"chat": [{"rule": "user"}]},
            r"no field chat.messages\[0\].rule; did you mean chat.messages\[0\].role",
        ),
        ({"zzz": 1}, "no field zzz; it has model, prompt"),
        ({"prompt": "a", "chat": []}, "only one of prompt, chat, tokens"),
        ({"n": "three"}, "n: "),
        ({"stop": "end"}, "stop: a list is needed, not str"),
        ({"sampling": 1}, "sampling: a SamplingConfig or a dict is needed, not int"),
    ],
)
def test_complaints_name_the_field(fields, complaint):
    with pytest.raises(TypeError, match=rf"generate\(\).*{complaint}"):
        generate(**fields)


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match="max_tokens"):
        generate(max_tokens=1 << 40)


def test_a_request_id_is_made_once_per_call_unless_given():
    first, second = register(model_id="a"), register(model_id="a")
    assert uuid.UUID(first.request_id).version == 4
    assert first.request_id != second.request_id
    assert register(request_id="mine").request_id == "mine"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"prompt": "\udcff"}, "prompt"),
        ({"prompt": b"\xff"}, "prompt"),
        ({"stop": ["fine", "\ud800"]}, "stop"),
        ({"chat": [{"role": "user", "content": "\ud800"}]}, "content"),
        ({"sampling": {"temperature": 10**400}}, "temperature"),
        ({"n": 1 << 70}, "n"),
    ],
)
def test_what_no_message_holds_is_a_value_error_that_names_the_field(fields, place):
    with pytest.raises(ValueError, match=rf"generate\(\): [\w.\[\]]*{place}: "):
        generate(model="m", **fields)


def test_fields_of_the_sampling_may_stand_beside_it():
    from palimpsest.api.decoding.v1 import decoding_pb2 as pb

    plain = build(
        pb.GenerateRequest, {"model": "m", "temperature": 0.5, "top_p": 0.9, "seed": 0}, "generate()"
    )
    assert plain.sampling == pb.SamplingConfig(temperature=0.5, top_p=0.9, seed=0)
    for given in ({"top_k": 4}, pb.SamplingConfig(top_k=4)):
        both = build(pb.GenerateRequest, {"model": "m", "sampling": given, "temperature": 0.5}, "generate()")
        assert both.sampling == pb.SamplingConfig(temperature=0.5, top_k=4)
    assert not isinstance(given, dict)
    assert given == pb.SamplingConfig(top_k=4), "the caller's message is not touched"
    assert not build(pb.GenerateRequest, {"model": "m", "temperature": None}, "generate()").HasField(
        "sampling"
    )
    with pytest.raises(TypeError, match="temprature; did you mean"):
        build(pb.GenerateRequest, {"model": "m", "temprature": 1}, "generate()")
    with pytest.raises(TypeError, match=r"sampling\.temperature"):
        build(pb.GenerateRequest, {"model": "m", "temperature": "hot"}, "generate()")


def test_a_field_of_its_own_is_meant_before_one_of_the_sampling():
    from palimpsest.api.decoding.v1 import decoding_pb2 as pb

    names = {name for name, _ in short_fields(pb.GenerateRequest.DESCRIPTOR)}
    assert names >= {"temperature", "top_k", "top_p", "min_p", "seed", "messages"}
    assert not names & set(pb.GenerateRequest.DESCRIPTOR.fields_by_name)


def test_messages_are_the_chat():
    from palimpsest.api.decoding.v1 import decoding_pb2 as pb

    turns = [{"role": "user", "content": "Hello!"}]
    given = [
        build(pb.GenerateRequest, {"model": "m", name: turns}, "generate()") for name in ("chat", "messages")
    ]
    assert given[0] == given[1]
    with pytest.raises(TypeError, match="only one of chat and messages"):
        build(pb.GenerateRequest, {"model": "m", "chat": turns, "messages": turns}, "generate()")
