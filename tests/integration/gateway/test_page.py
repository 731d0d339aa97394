"""The commands of the gateway's page, run as they are written but for the address and the model."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from palimpsest.settings import GatewaySettings, variable
from services.gateway.app import ROUTES

PAGE = (Path(__file__).resolve().parents[3] / "services" / "gateway" / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.mark.model
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(stack, tiny, command):
    command = command.replace("http://127.0.0.1:7680", stack.gateway).replace("smollm2-135m", tiny)
    if stack.token:
        command += f' -H "Authorization: Bearer {stack.token}"'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    last = done.stdout.strip().splitlines()[-1]
    assert last == "data: [DONE]" or "error" not in json.loads(last), done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_script_of_the_page_answers_a_batch(stack, tiny, tmp_path):
    [script] = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    script = script.replace("http://127.0.0.1:7680", stack.gateway).replace("smollm2-135m", tiny)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PALIMPSEST_TOKEN": stack.token or ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["custom_id"] for each in answers] == ["1", "2"]
    assert all(each["response"]["status_code"] == 200 for each in answers)


def test_the_page_has_every_endpoint_and_every_setting():
    for route in ROUTES:
        assert re.sub(r"\{model:path\}", "{id}", route.path) in PAGE, route.path
    for field in GatewaySettings.model_fields:
        assert variable(GatewaySettings, field) in PAGE or field == "listen"
