"""Chats through OpenAI's client, compared with the room itself."""

import openai
import pytest

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "fox?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


async def direct(grpc, **fields) -> tuple[str, int, int]:
    """Text, prompt tokens and generated tokens of the room's own reply."""
    async with grpc.decoding.generate(**fields) as events:
        got = [event async for event in events]
    end = next(event.finished for event in got if event.HasField("finished"))
    return end.text, got[0].started.prompt_tokens, end.generated_tokens


async def test_a_reply_is_the_rooms_text(ask, grpc, tiny):
    made = ask.chat.completions.create(model=tiny, messages=MESSAGES, temperature=0, max_tokens=12)
    text, prompt, generated = await direct(grpc, model=tiny, chat=MESSAGES, max_tokens=12)
    (choice,) = made.choices
    assert choice.message.content == text
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("length", "stop")
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (prompt, generated)
    assert made.system_fingerprint.startswith("sha256:")


async def test_parts_of_a_content_are_one_text(ask, grpc, tiny):
    parts = [{"type": "text", "text": "fo"}, {"type": "text", "text": "x?"}]
    made = ask.chat.completions.create(
        model=tiny,
        messages=[MESSAGES[0], {"role": "user", "content": parts}],
        temperature=0,
        max_completion_tokens=12,
    )
    assert (
        made.choices[0].message.content == (await direct(grpc, model=tiny, chat=MESSAGES, max_tokens=12))[0]
    )


def test_a_stream_is_the_same_reply_in_parts(ask, tiny):
    fields = {"model": tiny, "messages": MESSAGES, "temperature": 0, "max_tokens": 10, "n": 2}
    whole = ask.chat.completions.create(**fields)
    texts, roles, reasons, usages = ["", ""], [None, None], [None, None], []
    for chunk in ask.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}):
        usages.append(chunk.usage)
        for choice in chunk.choices:
            assert chunk.object == "chat.completion.chunk"
            texts[choice.index] += choice.delta.content or ""
            roles[choice.index] = roles[choice.index] or choice.delta.role
            reasons[choice.index] = reasons[choice.index] or choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert roles == ["assistant"] * 2
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usages[-1] == whole.usage or usages[-1].total_tokens == whole.usage.total_tokens
    assert not any(usages[:-1])


def test_without_being_asked_a_stream_has_no_usage(ask, tiny):
    chunks = list(ask.chat.completions.create(model=tiny, messages=MESSAGES, max_tokens=3, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_log_probabilities_are_those_of_the_tokens(ask, tiny):
    fields = {"model": tiny, "messages": MESSAGES, "temperature": 0, "max_tokens": 6, "logprobs": True}
    made = ask.chat.completions.create(**fields, top_logprobs=3, extra_body={"ignore_eos": True})
    content = made.choices[0].logprobs.content
    assert len(content) == made.usage.completion_tokens == 6
    joined = b"".join(bytes(each.bytes) for each in content).decode(errors="replace")
    assert joined.startswith(made.choices[0].message.content.rstrip("\ufffd"))
    for each in content:
        assert len(each.top_logprobs) == 3
        assert each.logprob == max(top.logprob for top in each.top_logprobs)
    streamed = []
    for chunk in ask.chat.completions.create(
        **fields, top_logprobs=3, stream=True, extra_body={"ignore_eos": True}
    ):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    assert [each.token for each in streamed] == [each.token for each in content]


def test_a_reply_without_a_maximum_fits_the_context(ask, tiny):
    """The context has 2048 tokens, and the default of a reply is 1024: a long conversation leaves less."""
    long = [{"role": "user", "content": "fox " * 1500}]
    made = ask.chat.completions.create(
        model=tiny, messages=long, temperature=0, extra_body={"ignore_eos": True}
    )
    assert made.usage.total_tokens == 2048
    assert made.choices[0].finish_reason == "length"


def test_messages_come_back_as_the_client_got_them(ask, tiny):
    first = ask.chat.completions.create(model=tiny, messages=MESSAGES, temperature=0, max_tokens=4)
    history = [*MESSAGES, first.choices[0].message.model_dump(), {"role": "user", "content": "And?"}]
    again = ask.chat.completions.create(model=tiny, messages=history, temperature=0, max_tokens=4)
    assert again.usage.prompt_tokens > first.usage.total_tokens


def test_roles_that_the_template_knows_are_taken(ask, with_tools):
    for role in ("developer", "system"):
        made = ask.chat.completions.create(
            model=with_tools, messages=[{"role": role, "content": "Be short."}, MESSAGES[1]], max_tokens=2
        )
        assert made.choices


def test_a_conversation_with_calls_is_rendered(ask, with_tools):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"place": "Rome"}'},
    }
    history = [
        MESSAGES[1],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    made = ask.chat.completions.create(model=with_tools, messages=history, tools=[WEATHER], max_tokens=2)
    without = ask.chat.completions.create(model=with_tools, messages=history, max_tokens=2)
    assert made.usage.prompt_tokens > without.usage.prompt_tokens > 30
    none = ask.chat.completions.create(
        model=with_tools, messages=history, tools=[WEATHER], tool_choice="none", max_tokens=2
    )
    assert none.usage.prompt_tokens == without.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role", "chat_role_unknown"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]},
            "messages[0].role",
            "chat_role_unknown",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "x", "name": "ann"}]},
            "messages[0].name",
            "unsupported_field",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "weight": 1}]},
            "messages[0].weight",
            "unsupported_field",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}
                ]
            },
            "messages[0].content[0].image_url",
            "unsupported_field",
        ),
        ({"tools": [WEATHER]}, "tools", "unsupported_field"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_field"),
        ({"functions": []}, "functions", "unsupported_field"),
        ({"modalities": ["audio"]}, "modalities[0]", "invalid_value"),
        ({"store": True}, "store", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 65}, "logprobs", "invalid_value"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
        ({"max_tokens": None, "max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_field"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_value"),
        ({"extra_body": {"guided_json": {}}}, "guided_json", "unsupported_field"),
        ({"extra_body": {"structured_outputs": {}}}, "structured_outputs", "invalid_value"),
    ],
)
def test_what_is_wrong_is_named(ask, tiny, fields, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.chat.completions.create(**{"model": tiny, "messages": MESSAGES, "max_tokens": 2, **fields})
    assert caught.value.param == param, caught.value
    assert caught.value.code == code, caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}},
            "tool_choice",
        ),
        (
            {"tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}]},
            "tools[0].function.strict",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ],
)
def test_what_is_wrong_with_tools_is_named(ask, with_tools, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.chat.completions.create(**{"model": with_tools, "messages": MESSAGES, "max_tokens": 2, **fields})
    assert caught.value.param.startswith(param), caught.value
