"""The examples in other languages, run as protos/README.md says, where their tools are."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest import Client
from tests.integration.conftest import Served

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
PROMPT = 'the "quick" brown'


@pytest.fixture(scope="module")
def model(stack: Served, tiny_model: Path) -> str:
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="languages-tiny", source=str(tiny_model)).result(timeout=60)
    return "languages-tiny"


@pytest.fixture(scope="module")
def text(stack: Served, model: str) -> str:
    """What the model says, as the Python client has it."""
    with Client(stack.target, token=stack.token) as client:
        return client.decoding.text(model=model, prompt=PROMPT, max_tokens=16)


def run(stack: Served, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PALIMPSEST_TOKEN": stack.token or ""}
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_every_import_is_here_or_comes_with_every_compiler():
    for proto in PROTOS.rglob("*.proto"):
        for name in re.findall(r'^import "(.+)";', proto.read_text(), re.MULTILINE):
            here = (PROTOS / name).is_file() or (PROTOS / "third_party" / name).is_file()
            assert here or name.startswith("google/protobuf/"), f"{proto} imports {name}"


def test_the_contract_compiles_with_nothing_but_the_two_folders(tmp_path: Path):
    compiler = Path(sys.prefix) / "proto" / "bin" / "python"
    if not compiler.exists():
        pytest.skip("the generator of `make install` is not here")
    includes = [f"-I{PROTOS}", f"-I{PROTOS / 'third_party'}"]
    files = [str(f) for f in (PROTOS / "palimpsest").rglob("*.proto")]
    command = [
        str(compiler),
        "-m",
        "grpc_tools.protoc",
        *includes,
        f"--descriptor_set_out={tmp_path / 'set'}",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("grpcurl"), reason="grpcurl is not installed")
def test_grpcurl_asks_as_the_readme_says(stack: Served, model: str, text: str):
    done = run(stack, str(PROTOS / "examples" / "grpcurl.sh"), stack.target, model, PROMPT)
    assert done.returncode == 0, done.stderr
    assert '"modelId": "languages-tiny"' in done.stdout
    assert '"finished"' in done.stdout
    missing = run(stack, str(PROTOS / "examples" / "grpcurl.sh"), stack.target, "nobody", PROMPT)
    assert missing.returncode != 0
    assert "NotFound" in missing.stderr


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract and its example beside each other, with what npm installs for it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node.js is not installed")
    protos = tmp_path_factory.mktemp("node") / "protos"
    shutil.copytree(PROTOS, protos, ignore=shutil.ignore_patterns("node_modules"))
    folder = protos / "examples" / "node"
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm reaches no registry")
    if done.returncode:
        pytest.skip(f"npm could not install: {done.stderr[-200:]}")
    return folder / "generate.js"


def test_node_asks_as_the_readme_says(stack: Served, model: str, text: str, node: Path):
    done = run(stack, "node", str(node), stack.target, model, PROMPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text + "\n"
    missing = run(stack, "node", str(node), stack.target, "nobody", PROMPT)
    assert missing.returncode == 1
    assert missing.stderr.startswith("MODEL_NOT_FOUND: ")
