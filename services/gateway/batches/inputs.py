"""A batch's input as the job takes it: every line converted, and those that are no requests set apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from services.gateway.batches.lines import LARGEST_LINE, Endpoint, body_of, converted, name_of, parsed
from services.gateway.batches.results import refused
from services.gateway.errors import ApiError, bad
from services.gateway.json_text import dumps


@dataclass
class Conversion:
    """One conversion; it runs on a thread, as it takes seconds for a large file.

    Attributes
    ----------
    model
        That of all lines.
    lines, refused
        All lines, and those that are no requests.
    first_error
        What is wrong with the first of those.
    """

    endpoint: Endpoint
    nonce: str
    default_model: str
    chat_tokens: int
    most_lines: int
    model: str = ""
    lines: int = 0
    refused: int = 0
    first_error: str = ""

    def run(self, source: BinaryIO, requests: BinaryIO, errors: BinaryIO) -> None:
        """Convert what is left of a file.

        Parameters
        ----------
        source
            Lines in OpenAI's form.
        requests
            Takes the lines of ``GenerateBatch``.
        errors
            Takes lines of the error file.

        Raises
        ------
        ApiError
            400: a second model, too many lines, or no line is a request.
        """
        names: set[str] = set()
        for line in _lines(source):
            self.lines += 1
            if self.lines > self.most_lines:
                raise bad(
                    "input_file_id",
                    f"The file has more than {self.most_lines} lines, the limit here "
                    "(PALIMPSEST_GATEWAY_BATCH_LINES). Send it in parts.",
                )
            try:
                requests.write(self._request(line, names))
            except _SecondModel as error:
                raise error.answer from None
            except ApiError as error:
                self.refused += 1
                self.first_error = self.first_error or f"line {self.lines}: {error.message}"
                errors.write(refused(self.nonce, self.lines - 1, name_of(line), error))
        if self.refused == self.lines:
            why = self.first_error or "it is empty"
            raise bad("input_file_id", f"No line of the file is a request: {why}", "invalid_input_file")

    def _request(self, line: bytes, names: set[str]) -> bytes:
        found = parsed(line, self.endpoint)
        if found.custom_id in names:
            raise bad("custom_id", f"An earlier line has the custom_id {found.custom_id[:100]!r} already.")
        body = body_of(found)
        fields = converted(body, self.chat_tokens)
        model = body.model or self.default_model
        if not model:
            raise bad("model", "model is required.", "missing_required_parameter")
        if model != (self.model or model):
            raise _SecondModel(self.lines, self.model, model)
        names.add(found.custom_id)
        self.model = model
        return dumps({"custom_id": found.custom_id, **fields}).encode() + b"\n"


class _SecondModel(Exception):
    """A line names another model than those before it: this is said of the batch, not of the line."""

    def __init__(self, line: int, first: str, second: str) -> None:
        super().__init__(line)
        message = f"Line {line} names the model {second[:100]!r}, earlier ones {first[:100]!r}; send a batch for each."
        self.answer = bad("input_file_id", message, "mismatched_model")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends, blank ones left out; one over the limit is cut a byte past it, and refused for that."""
    while line := file.readline(LARGEST_LINE + 1):
        if not line.endswith(b"\n"):
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        if line.strip():
            yield line.rstrip(b"\r\n")
