"""Generate the Python API from the .proto files, or check that the committed copy is what they give."""

import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

import google.longrunning.operations_pb2 as longrunning_pb2
import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "shared" / "palimpsest" / "api"


def generate(destination: Path) -> None:
    """Compile every proto under protos/palimpsest into destination (a source root)."""
    sources = sorted(PROTOS.glob("palimpsest/**/*.proto"))
    with tempfile.TemporaryDirectory() as include:
        # The wheel ships this file under another name; importing that name compiles and then fails at
        # run time, because the descriptor in the wheel is registered as operations.proto.
        longrunning = Path(include) / "google" / "longrunning" / "operations.proto"
        longrunning.parent.mkdir(parents=True)
        shipped = Path(longrunning_pb2.__file__).parent
        shutil.copy(shipped / "operations_proto.proto", longrunning)
        site = shipped.parent.parent
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        code = protoc.main(
            [
                "protoc",
                f"-I{PROTOS}",
                f"-I{include}",
                f"-I{well_known}",
                f"-I{site}",
                f"--python_out={destination}",
                f"--pyi_out={destination}",
                f"--grpc_python_out={destination}",
                *map(str, sources),
            ]
        )
    if code:
        raise SystemExit(code)
    for path in sources:
        # The plugin writes a _pb2_grpc.py for files that define no service too.
        if "\nservice " not in path.read_text():
            stem = destination / path.relative_to(PROTOS).with_suffix("")
            stem.with_name(stem.name + "_pb2_grpc.py").unlink()
    for folder in {p.parent for p in destination.rglob("*_pb2.py")}:
        while folder != destination / "palimpsest":
            (folder / "__init__.py").touch()
            folder = folder.parent


def differences(left: Path, right: Path) -> list[str]:
    """Names of files that are in one tree only or differ, __pycache__ aside."""

    def listing(base: Path) -> set[Path]:
        return {p.relative_to(base) for p in base.rglob("*") if p.is_file() and "__pycache__" not in p.parts}

    a, b = listing(left), listing(right)
    changed = {p for p in a & b if not filecmp.cmp(left / p, right / p, shallow=False)}
    return sorted(map(str, (a ^ b) | changed))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / "palimpsest" / "api"
        if "--check" in sys.argv[1:]:
            drift = differences(fresh, GENERATED)
            if drift:
                raise SystemExit("generated code is out of date; run deploy/proto.sh: " + ", ".join(drift))
        else:
            shutil.rmtree(GENERATED, ignore_errors=True)
            shutil.copytree(fresh, GENERATED)


if __name__ == "__main__":
    main()
