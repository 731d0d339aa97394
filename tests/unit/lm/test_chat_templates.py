"""What a chat template knows, and conversations that it would render wrongly without a word."""

import pytest
from transformers import AutoTokenizer

from palimpsest.errors import InvalidArgument
from palimpsest.lm.chat_templates import CallForm, facts_of, render_chat, template_of

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TAGS = (
    '{% if tools %}{{ tools | tojson }} <tool_call>{"name": ...}</tool_call>{% endif %}'
    "{% for m in messages %}{% if m.role == 'tool' %}<tool_response>{{ m.content }}{% elif m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% else %}{{ m.role }}: {{ m.content }}\n"
    "{% endif %}{% endfor %}"
)
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize(
    ("template", "roles", "takes_tools", "calls"),
    [
        (PLAIN, (), False, CallForm.UNKNOWN),
        (TAGS, ("tool",), True, CallForm.TAGGED),
        ("{% if tools %}[TOOL_CALLS]{% endif %}{{ 'developer' }}", ("developer",), True, CallForm.LIST),
        ('{% if tools %}{"name": 1, "parameters": 2}{% endif %}', (), True, CallForm.BARE),
        ("{% if tools %}{{ tools }}{% endif %}", (), True, CallForm.UNKNOWN),
        ("{# tool developer tools #}{{ messages[0].content }} tool", (), False, CallForm.UNKNOWN),
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}",
         (), False, CallForm.UNKNOWN),
    ],
)  # fmt: skip
def test_a_template_knows_what_it_names(template, roles, takes_tools, calls):
    facts = facts_of(template)
    assert facts.roles == ("system", "user", "assistant", *roles)
    assert (facts.takes_tools, facts.calls) == (takes_tools, calls)


def test_a_conversation_is_what_transformers_makes_of_it(tokenizer):
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "fox?"}]
    for opening in (True, False):
        wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opening)
        assert render_chat(tokenizer, chat, opening=opening) == wanted
    tokenizer.chat_template = TAGS
    wanted = tokenizer.apply_chat_template(chat, tools=[TOOL], tokenize=False)
    assert render_chat(tokenizer, chat, [TOOL], opening=False) == wanted


@pytest.mark.parametrize(
    ("template", "message", "tools", "reason"),
    [
        (PLAIN, {"role": "developer", "content": "x"}, [], "CHAT_ROLE_UNKNOWN"),
        (PLAIN, {"role": "tool", "content": "x"}, [], "CHAT_ROLE_UNKNOWN"),
        (PLAIN, {"role": "user", "content": "x"}, [TOOL], "TOOLS_UNSUPPORTED"),
        (PLAIN, {"role": "assistant", "content": "", "tool_calls": [{}]}, [], "TOOLS_UNSUPPORTED"),
        (TAGS, {"role": "developer", "content": "x"}, [TOOL], "CHAT_ROLE_UNKNOWN"),
        ("{{ raise_exception('no') }}", {"role": "user", "content": "x"}, [], "CHAT_INVALID"),
        ("{% for %}", {"role": "user", "content": "x"}, [], "CHAT_INVALID"),
        ("", {"role": "user", "content": "x"}, [], "NO_CHAT_TEMPLATE"),
    ],
)
def test_what_would_be_dropped_or_made_up_is_refused(tokenizer, template, message, tools, reason):
    tokenizer.chat_template = template
    with pytest.raises(InvalidArgument) as caught:
        render_chat(tokenizer, [message], tools)
    assert caught.value.reason == reason
    assert caught.value.violations


def test_a_tokenizer_may_have_a_template_of_its_own_for_tools(tokenizer):
    tokenizer.chat_template = {"default": PLAIN, "tool_use": TAGS}
    assert template_of(tokenizer) == PLAIN
    assert template_of(tokenizer, tools=True) == TAGS
    assert "<tool_call>" in render_chat(tokenizer, [{"role": "user", "content": "x"}], [TOOL])
