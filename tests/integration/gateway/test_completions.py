"""Completions through OpenAI's client, compared with the room itself."""

import openai
import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb

PROMPT = "the quick brown fox"


async def direct(grpc, **fields) -> list[pb.GenerateResponse]:
    async with grpc.decoding.generate(**fields) as events:
        return [event async for event in events]


async def test_a_completion_is_the_rooms_text(ask, grpc, tiny):
    made = ask.completions.create(model=tiny, prompt=PROMPT, temperature=0, max_tokens=12)
    events = await direct(grpc, model=tiny, prompt=PROMPT, max_tokens=12)
    end = next(event.finished for event in events if event.HasField("finished"))
    (choice,) = made.choices
    assert choice.text == end.text
    assert choice.finish_reason == ("length" if end.reason == pb.FINISH_REASON_LENGTH else "stop")
    assert made.usage.completion_tokens == end.generated_tokens
    assert made.usage.prompt_tokens == events[0].started.prompt_tokens
    assert made.object == "text_completion"


def test_prompts_may_be_texts_or_tokens_one_or_several(ask, tiny, tiny_tokenizer):
    texts = [PROMPT, "a lazy dog", "jumps over"]
    ids = [tiny_tokenizer(text).input_ids for text in texts]
    fields = {"model": tiny, "temperature": 0, "max_tokens": 6, "n": 2}
    several = ask.completions.create(prompt=texts, **fields)
    assert [choice.index for choice in several.choices] == list(range(6))
    by_ids = ask.completions.create(prompt=ids, **fields)
    assert [c.text for c in by_ids.choices] == [c.text for c in several.choices]
    alone = ask.completions.create(prompt=ids[1], **fields)
    assert [c.text for c in alone.choices] == [c.text for c in several.choices[2:4]]
    assert several.usage.prompt_tokens == sum(map(len, ids))


def test_sixteen_tokens_and_temperature_one_unless_said_otherwise(ask, tiny):
    made = ask.completions.create(model=tiny, prompt=PROMPT, seed=5, extra_body={"ignore_eos": True})
    assert made.usage.completion_tokens == 16
    hot = ask.completions.create(
        model=tiny, prompt=PROMPT, seed=5, temperature=1.0, extra_body={"ignore_eos": True}
    )
    assert made.choices[0].text == hot.choices[0].text
    cold = ask.completions.create(
        model=tiny, prompt=PROMPT, seed=5, temperature=0, extra_body={"ignore_eos": True}
    )
    assert cold.choices[0].text != made.choices[0].text


def test_a_seed_repeats_a_text(ask, tiny):
    first, again = (
        ask.completions.create(model=tiny, prompt=PROMPT, seed=11, temperature=1.5, max_tokens=24)
        for _ in range(2)
    )
    assert first.choices[0].text == again.choices[0].text


def test_extensions_of_sampling_are_passed_on(ask, tiny):
    fields = {"model": tiny, "prompt": PROMPT, "temperature": 2.0, "max_tokens": 12, "seed": 3}
    greedy = ask.completions.create(**{**fields, "temperature": 0})
    one = ask.completions.create(**fields, extra_body={"top_k": 1})
    sure = ask.completions.create(**fields, extra_body={"min_p": 1.0})
    nucleus = ask.completions.create(**fields, top_p=0)
    assert one.choices[0].text == sure.choices[0].text == nucleus.choices[0].text == greedy.choices[0].text


def test_a_token_that_ends_the_text_is_in_the_lists(ask, tiny, tiny_tokenizer):
    """Who drops the last probability as the generated one's would lose one of the prompt's otherwise."""
    for seed in range(200):
        made = ask.completions.create(
            model=tiny, prompt=PROMPT, max_tokens=1, temperature=4, seed=seed, logprobs=0, echo=True
        )
        if made.choices[0].finish_reason == "stop":
            break
    assert made.choices[0].finish_reason == "stop", "no seed ended the text at once"
    assert made.choices[0].text == PROMPT
    assert len(made.choices[0].logprobs.tokens) == len(tiny_tokenizer(PROMPT).input_ids) + 1
    assert made.choices[0].logprobs.tokens[-1] == tiny_tokenizer.eos_token
    assert made.choices[0].logprobs.text_offset[-1] == len(PROMPT)


def test_characters_of_several_tokens_have_one_offset(ask, tiny):
    text = "fox é🦊"
    made = ask.completions.create(model=tiny, prompt=text, max_tokens=0, echo=True, logprobs=0)
    lists = made.choices[0].logprobs
    assert made.choices[0].text == text
    parts = [t for t in lists.tokens if t.startswith("bytes:")]
    assert len(parts) == 6  # two bytes and four: the tiny tokenizer merged none of them
    assert lists.text_offset == sorted(lists.text_offset)
    assert lists.text_offset[-4:] == [5, 5, 5, 5]


def test_a_stop_string_ends_the_text_before_it(ask, tiny):
    whole = ask.completions.create(model=tiny, prompt=PROMPT, temperature=0, max_tokens=20).choices[0].text
    stop = whole[5:8]
    for given in (stop, ["\u0001never", stop]):
        cut = ask.completions.create(model=tiny, prompt=PROMPT, temperature=0, max_tokens=20, stop=given)
        assert cut.choices[0].text == whole[: whole.index(stop)]
        assert cut.choices[0].finish_reason == "stop"
        assert cut.choices[0].stop_reason == stop


def test_a_stream_is_the_same_text_in_parts(ask, tiny):
    fields = {"model": tiny, "prompt": [PROMPT, "a dog"], "temperature": 0, "max_tokens": 10, "n": 2}
    fields |= {"logprobs": 2, "echo": True}
    whole = ask.completions.create(**fields)
    texts, lists, reasons = [""] * 4, [[] for _ in range(4)], [None] * 4
    usage = None
    for chunk in ask.completions.create(**fields, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
            if choice.logprobs:
                lists[choice.index] += zip(
                    choice.logprobs.text_offset, choice.logprobs.token_logprobs, strict=True
                )
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    for found, choice in zip(lists, whole.choices, strict=True):
        assert [offset for offset, _ in found] == choice.logprobs.text_offset


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"suffix": "end"}, "suffix", "unsupported_field"),
        ({"best_of": 3}, "best_of", "unsupported_field"),
        ({"extra_body": {"frobnicate": 1}}, "frobnicate", "unsupported_field"),
        ({"extra_body": {"guided_regex": "a+"}}, "guided_regex", "unsupported_field"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "many"}, "max_tokens", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 65}, "n", "invalid_value"),
        ({"logprobs": 100}, "logprobs", "invalid_value"),
        ({"logprobs": True}, "logprobs", "invalid_value"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [[]]}, "prompt", "invalid_value"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": {"text": "a"}}, "prompt", "invalid_value"),
        ({"prompt": ""}, "prompt", "prompt_empty"),
        ({"prompt": [5, 99999]}, None, "token_id_out_of_range"),
        ({"stop": ["a"] * 17}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop", "stop_empty"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"extra_body": {"top_k": 99999}, "temperature": 1}, "top_k", "top_k_too_large"),
        ({"logit_bias": {"the": 5}}, "logit_bias", "invalid_value"),
        ({"extra_body": {"seed": 1 << 65}}, None, "invalid_json"),
    ],
)
def test_what_is_wrong_is_named(ask, tiny, fields, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        ask.completions.create(**{"model": tiny, "prompt": PROMPT, **fields})
    assert caught.value.code == code, caught.value
    assert caught.value.param == param, caught.value
    assert caught.value.type == "invalid_request_error"


def test_neutral_values_and_labels_change_nothing(ask, tiny):
    fields = {"model": tiny, "prompt": PROMPT, "temperature": 0, "max_tokens": 8}
    plain = ask.completions.create(**fields)
    labelled = ask.completions.create(
        **fields,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        best_of=1,
        user="someone",
        extra_body={"suffix": None, "repetition_penalty": 1, "min_tokens": 0, "metadata": {"a": "b"}},
    )
    assert labelled.choices[0].text == plain.choices[0].text


def test_a_prompt_that_does_not_fit_is_an_error_that_no_client_takes_for_a_reply(ask, tiny):
    """Inspect makes a reply, which is scored, of a 400 whose code is context_length_exceeded."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask.completions.create(model=tiny, prompt="fox " * 3000, max_tokens=5)
    assert caught.value.code == "prompt_too_long"
    assert "2048" in caught.value.message


def test_a_model_that_is_not_there_is_a_404(ask):
    for name in ("absent", "Org/Name"):
        with pytest.raises(openai.NotFoundError) as caught:
            ask.completions.create(model=name, prompt=PROMPT)
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"


async def test_the_only_model_need_not_be_named(http, grpc, tiny):
    listed = (await grpc.models.list_models()).models
    answer = http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 2})
    if len(listed) == 1:
        assert answer.json()["model"] == tiny
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "model"
        named = answer.json()["error"]["message"].partition("there are: ")[2].rstrip(".").split(", ")
        assert named == [each.model_id for each in listed][: len(named)]
