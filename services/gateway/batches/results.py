"""The lines of a batch's output and error files: from the job's results to OpenAI's responses.

The same result gives the same bytes each time: ids and times are the batch's own.
"""

from typing import Any

from palimpsest.errors import Code, from_code
from services.gateway.batches.records import BatchRecord
from services.gateway.errors import ApiError, from_rooms
from services.gateway.json_text import dumps

Json = dict[str, Any]


def answered(record_name: str, number: int, custom_id: object, status: int, body: Json) -> bytes:
    """A line of an output or error file.

    Parameters
    ----------
    record_name
        The batch's nonce, which with the line's number makes names.
    number
        Of the line.
    custom_id, status, body
        Of the request and its response.
    """
    name = f"{record_name}-{number}"
    response = {"status_code": status, "request_id": f"req-{name}", "body": body}
    made = {"id": f"batch_req_{name}", "custom_id": custom_id, "response": response, "error": None}
    return dumps(made).encode() + b"\n"


def refused(record_name: str, number: int, custom_id: str | None, error: ApiError) -> bytes:
    """The line of an error file for a line that is no request."""
    return answered(record_name, number, custom_id, error.status, error.body)


def converted(record: BatchRecord, result: Json) -> bytes:
    """A result line of the job as a line of the file that it belongs to.

    ``index`` counts the lines that the job was given, so a name has the letter ``j`` before it.
    """
    name, number, custom_id = f"{record.nonce}-j", result["index"], result.get("custom_id")
    if "outputs" not in result:
        error = _error(result["error"])
        return answered(name, number, custom_id, error.status, error.body)
    outputs = result["outputs"]
    generated = sum(each["generated_tokens"] for each in outputs)
    prompt = outputs[0]["prompt_tokens"]
    chat = record.endpoint == "/v1/chat/completions"
    body = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{name}-{number}",
        "object": "chat.completion" if chat else "text_completion",
        "created": record.created_at,
        "model": record.model,
        "choices": [_choice(at, each, chat) for at, each in enumerate(outputs)],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
        },
    }
    return answered(name, number, custom_id, 200, body)


def _choice(index: int, output: Json, chat: bool) -> Json:
    text: Json = {"text": output["text"]}
    if chat:
        text = {"message": {"role": "assistant", "content": output["text"], "refusal": None}}
    return {
        "index": index,
        **text,
        "logprobs": None,
        "finish_reason": "length" if output["finish_reason"] == "length" else "stop",
        "stop_reason": output.get("stop"),
    }


def _error(told: Json) -> ApiError:
    """What the room said of a line, as it would have been answered."""
    return from_rooms(from_code(Code[told["code"]], told["reason"], told["message"]))
