"""Tokens of texts and conversations, compared with transformers."""

import pytest

TEXT = "the quick é🦊"
CHAT = [{"role": "user", "content": "fox?"}]


def test_a_text_has_the_tokenizers_tokens_and_comes_back(http, tiny, tiny_tokenizer):
    found = http.post("/tokenize", json={"model": tiny, "prompt": TEXT, "return_token_strs": True}).json()
    ids = tiny_tokenizer(TEXT).input_ids
    assert found["tokens"] == ids
    assert found["count"] == len(ids) == len(found["token_strs"])
    assert found["max_model_len"] == 2048
    back = http.post("/detokenize", json={"model": tiny, "tokens": ids}).json()
    assert back == {"prompt": TEXT, "content": TEXT}


def test_clients_of_llama_cpp_call_it_content_and_ask_for_pieces(http, tiny):
    found = http.post("/tokenize", json={"model": tiny, "content": TEXT, "with_pieces": True}).json()[
        "tokens"
    ]
    whole = b"".join(
        each["piece"].encode() if isinstance(each["piece"], str) else bytes(each["piece"]) for each in found
    )
    assert whole.decode() == TEXT


def test_a_conversation_is_what_its_template_makes_of_it(http, tiny, tiny_tokenizer):
    for opening in (True, False):
        body = {"model": tiny, "messages": CHAT, "add_generation_prompt": opening}
        text = tiny_tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=opening)
        assert http.post("/apply-template", json=body).json() == {"prompt": text}
        found = http.post("/tokenize", json=body).json()["tokens"]
        assert found == tiny_tokenizer(text, add_special_tokens=False).input_ids


def test_tools_are_in_the_text(http, with_tools):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    text = http.post("/apply-template", json={"model": with_tools, "messages": CHAT, "tools": [tool]}).json()
    assert '"weather"' in text["prompt"]


def test_a_tokenizer_is_described(http, tiny, with_tools, tiny_tokenizer):
    found = http.get("/tokenizer_info", params={"model": tiny}).json()
    assert found["eos_token"] == tiny_tokenizer.eos_token
    assert found["bos_token"] is None
    assert found["chat_template"] == tiny_tokenizer.chat_template
    assert found["vocab_size"] == len(tiny_tokenizer)
    assert found["roles"] == ["system", "user", "assistant"]
    assert found["takes_tools"] is False
    other = http.get("/tokenizer_info", params={"model": with_tools}).json()
    assert other["roles"] == ["system", "user", "assistant", "developer", "tool"]
    assert other["takes_tools"] is True


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": CHAT}, "prompt"),
        ("/tokenize", {"prompt": "a", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("/tokenize", {"prompt": "a", "truncate": 3}, "truncate"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/apply-template", {"messages": []}, "messages"),
        ("/apply-template", {"messages": [{"role": "tool", "content": "", "tool_call_id": "a"}]}, "messages[0].role"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(http, tiny, path, body, param):
    answer = http.post(path, json={"model": tiny, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_id_outside_the_vocabulary_is_refused_and_no_text_has_no_tokens(http, tiny):
    assert http.post("/detokenize", json={"model": tiny, "tokens": [99999]}).status_code == 400
    assert http.post("/tokenize", json={"model": tiny, "prompt": ""}).json()["tokens"] == []
    assert http.post("/detokenize", json={"model": tiny, "tokens": []}).json()["prompt"] == ""
