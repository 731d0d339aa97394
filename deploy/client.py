"""Write the client's typed rooms from the contract, and the blocking client from the asyncio one.

`python deploy/client.py` writes shared/palimpsest/client; `--check` changes nothing and fails on drift.
"""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
CLIENT = ROOT / "shared" / "palimpsest" / "client"
sys.path.insert(0, str(ROOT / "shared"))

from palimpsest.api.options.v1 import options_pb2  # noqa: E402

# By itself, without its package: that imports the rooms, which may be out of date just now.
_spec = importlib.util.spec_from_file_location("requests", CLIENT / "requests.py")
assert _spec is not None
assert _spec.loader is not None
requests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(requests)

HANDWRITTEN = {"concurrency.py", "__init__.py"}
WIDTH = 110

# asyncio source -> blocking twin, whole words, in this order.
TWINS = {
    r"\basync (def|for|with)\b": r"\1",
    r"\bawait ": "",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"\bAsyncIterator, Awaitable, Callable\b": "Iterator, Callable",
    r"\bgrpc\.aio\.": "grpc.",
    r"\bclient\.aio\b": "client.blocking",
    r"\bopen_aio_channel\b": "open_channel",
    r"\bAsync(?=[A-Z])": "",
    r"\b__a(?=(iter|next|enter|exit)__)": "__",
    r"\ba(iter|next)\(": r"\1(",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\bThe asyncio client\b": "The blocking client",
}

SCALARS = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_UINT32: "int",
    FieldDescriptor.CPPTYPE_UINT64: "int",
}


def comments(proto: Path) -> dict[str, str]:
    """Leading comments of a .proto file by dotted name within the file: services, rpcs, messages, fields."""
    found: dict[str, str] = {}
    scope: list[str] = []
    pending: list[str] = []
    for raw in proto.read_text().splitlines():
        line = raw.strip()
        if line.startswith("//"):
            pending.append(line[2:].removeprefix(" ").rstrip())
            continue
        block = re.match(r"(?:service|message|enum|oneof) (\w+)|rpc (\w+)", line)
        field = re.match(r"(?:repeated |optional )?[\w.<>, ]+? (\w+) = \d+", line)
        name = (block[1] or block[2]) if block else field[1] if field else ""
        # A oneof is no scope of its own: its fields belong to the message.
        path = [part for part in scope if not part.startswith("oneof ")]
        if name and pending:
            found[".".join([*path, name])] = "\n".join(pending)
        if line:
            pending = []
        for brace in re.sub(r'"[^"]*"', "", line):
            if brace == "{":
                scope.append(f"oneof {name}" if line.startswith("oneof") else name)
            elif brace == "}":
                scope.pop()
    return found


def python_name(message: Descriptor) -> str:
    """How generated code refers to a message: module alias and (nested) class."""
    module = Path(message.file.name).stem + "_pb2"
    return f"{module}.{message.full_name.removeprefix(message.file.package + '.')}"


def type_of(field: FieldDescriptor) -> str:
    """Type of the keyword argument for a request field."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = message.fields
        return f"Mapping[{type_of(key)}, {type_of(value)}]"
    if message is not None:
        single = f"{python_name(message)} | Mapping[str, object]"
        # client/requests.py takes the list itself in place of a message that only wraps it.
        if len(message.fields) == 1 and message.fields[0].is_repeated:
            single += f" | {type_of(message.fields[0])}"
    elif field.enum_type is not None:
        module = Path(field.enum_type.file.name).stem + "_pb2"
        single = f"{module}.{field.enum_type.name} | str"
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        single = "bytes" if field.type == FieldDescriptor.TYPE_BYTES else "str"
    else:
        single = SCALARS[field.cpp_type]
    return f"Sequence[{single}]" if field.is_repeated else single


def prose(text: str, indent: str) -> str:
    """Comment text as docstring text: its own line breaks kept, indented."""
    return "\n".join((indent + line).rstrip() for line in text.replace("\\", "\\\\").splitlines())


def docstring(summary: str, fields: list[tuple[str, str]], indent: str) -> str:
    """A numpy-style docstring: the method's comment, then its fields'."""
    lines = [f'{indent}"""' + prose(summary, indent).lstrip()]
    described = [(name, text) for name, text in fields if text]
    if described:
        lines += ["", f"{indent}Parameters", f"{indent}----------"]
        for name, text in described:
            lines += [f"{indent}{name}", prose(text, indent + "    ")]
    if len(lines) == 1 and "\n" not in lines[0] and len(lines[0]) < WIDTH - 3:
        return lines[0] + '"""'
    return "\n".join([*lines, f'{indent}"""'])


def method_source(service: ServiceDescriptor, method: MethodDescriptor, notes: dict[str, str]) -> str:
    """The declaration of one RPC."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method.name).lower()
    request, response = method.input_type, method.output_type
    answer = python_name(response)
    info = next((v for o, v in method.GetOptions().ListFields() if o.name == "operation_info"), None)
    if info is not None:
        package = service.file.package
        full = info.response_type if "." in info.response_type else f"{package}.{info.response_type}"
        answer = f"AsyncJob[{python_name(service.file.pool.FindMessageTypeByName(full))}]"
    if (field := requests.listed(request, response)) is not None:
        answer = f"AsyncListing[{python_name(field.message_type)}]"
    summary = notes.get(f"{service.name}.{method.name}") or f"Call {method.name}."
    keyword = "async def"
    if method.client_streaming:
        parameters = [f"requests: AsyncIterable[{python_name(request)}]", "*"]
        fields = []
    else:
        parameters = ["*"]
        fields = list(request.fields)
        if "timeout" in request.fields_by_name:
            raise SystemExit(f"{request.full_name}.timeout would hide the call's own timeout; rename it")
    if method.server_streaming:
        keyword, answer = "def", f"AsyncStream[{answer}]"
    required = [f for f in fields if f.GetOptions().Extensions[options_pb2.limits].required]
    optional = [f for f in fields if f not in required]
    parameters += [f"{f.name}: {type_of(f)}" for f in required]
    parameters += [f"{f.name}: {type_of(f)} | None = None" for f in optional]
    parameters += ["timeout: float | None = None"]
    shorts = requests.short_fields(request) if not method.client_streaming else []
    parameters[-1:-1] = [f"{name}: {type_of(f)} | None = None" for name, f in shorts]
    described = [(f.name, notes.get(f"{request.name}.{f.name}", "")) for f in [*required, *optional]]
    if names := [name for name, f in shorts if f.containing_type is not request]:
        described.append((", ".join(names), f"Fields of ``{requests.FLAT}``, given beside it."))
    described += [(name, f"The same as ``{f.name}``.") for name, f in shorts if f.containing_type is request]
    return "\n".join(
        [
            f'    @rpc("{method.full_name}")',
            f"    {keyword} {name}(self, {', '.join(parameters)},) -> {answer}:",
            docstring(summary, described, " " * 8),
            "        ...",
        ]
    )


def rooms_source() -> str:
    """The module of typed rooms: one class for each area of the contract that has a service."""
    imports: set[str] = {"from google.longrunning import operations_pb2"}
    classes: list[str] = []
    for proto in sorted(PROTOS.glob("palimpsest/api/*/v1/*.proto")):
        area = proto.parent.parent.name
        module = importlib.import_module(f"palimpsest.api.{area}.v1.{proto.stem}_pb2")
        services = module.DESCRIPTOR.services_by_name.values()
        if not services:
            continue
        imports.add(f"from palimpsest.api.{area}.v1 import {proto.stem}_pb2")
        notes = comments(proto)
        head = proto.read_text().split("syntax =")[0]
        summary = "\n".join(line[2:].strip() for line in head.splitlines() if line.startswith("//"))
        body = [method_source(s, m, notes) for s in services for m in s.methods]
        title = "".join(part.capitalize() for part in area.split("_"))
        opening = f"class Async{title}Room(AsyncRoom):\n" + docstring(summary, [], "    ")
        classes.append("\n\n".join([opening, *body]))
    head = [
        '"""The rooms with their RPCs as typed methods. Generated from protos/ by deploy/client.py."""',
        "",
        "# ruff: noqa: D417",
        "",
        "from collections.abc import AsyncIterable, Mapping, Sequence",
        "",
        *sorted(imports),
        "from palimpsest.client.aio.jobs import AsyncJob",
        "from palimpsest.client.aio.listing import AsyncListing",
        "from palimpsest.client.aio.rpc import AsyncRoom, rpc",
        "from palimpsest.client.aio.streams import AsyncStream",
        "",
    ]
    return "\n".join([*head, *classes])


def blocking_source(source: str, name: str) -> str:
    """The blocking twin of an asyncio module."""
    if name == "rooms.py":
        source = source.replace(" Generated from protos/ by deploy/client.py.", "")
    for pattern, twin in TWINS.items():
        source = re.sub(pattern, twin, source)
    first, _, rest = source.partition('"""\n')
    return f'{first}"""\n\n# Made from client/aio/{name} by deploy/client.py; edit that.\n{rest}'


def tidy(folder: Path) -> None:
    """Format and sort imports as the rest of the code is."""
    ruff = [sys.executable, "-m", "ruff"]
    # Outside the tree ruff cannot see that the package is ours.
    config = [f"--config={ROOT / 'pyproject.toml'}", "--config=lint.isort.known-first-party=['palimpsest']"]
    subprocess.run([*ruff, "check", "-q", *config, "--select=I,F401", "--fix", str(folder)], check=True)
    subprocess.run([*ruff, "format", "-q", *config, str(folder)], check=True)


def generate(destination: Path) -> None:
    """Write aio/rooms.py and everything generated in blocking/ under destination."""
    scratch = destination / "aio"
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "rooms.py").write_text(rooms_source())
    tidy(scratch / "rooms.py")
    twins = destination / "blocking"
    twins.mkdir(exist_ok=True)
    for path in [scratch / "rooms.py", *(CLIENT / "aio").glob("*.py")]:
        if path.name in HANDWRITTEN or (path.parent == CLIENT / "aio" and path.name == "rooms.py"):
            continue
        (twins / path.name).write_text(blocking_source(path.read_text(), path.name))
    tidy(twins)


def drift() -> list[str]:
    """Names of generated files that are not what the sources give."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        made = {p.relative_to(fresh): p.read_text() for p in fresh.rglob("*.py")}
    committed = {p.relative_to(CLIENT) for p in (CLIENT / "blocking").glob("*.py")}
    extra = {p for p in committed if p not in made and p.name not in HANDWRITTEN}
    wrong = {p for p, text in made.items() if not (CLIENT / p).exists() or (CLIENT / p).read_text() != text}
    return sorted(map(str, extra | wrong))


def main() -> None:
    if "--check" in sys.argv[1:]:
        names = drift()
        if names:
            raise SystemExit("the client is out of date; run python deploy/client.py: " + ", ".join(names))
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        shutil.copytree(scratch, CLIENT, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
