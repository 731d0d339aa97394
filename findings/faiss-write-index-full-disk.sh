#!/usr/bin/env bash
# faiss.write_index returns as if all were well when the disk is full and what does not fit is the last buffered part:
# the write happens as the file is closed, and the result of closing it is not looked at (a line on stderr at most). A
# small index, or the end of a large one, is then missing without an exception. Writing through
# PyCallbackIOWriter and a Python file raises OSError.
#
# /dev/full stands for the full disk. Exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6
cat > "$folder/look.py" <<'PYTHON'
import sys

import faiss
import numpy as np


def attempt(write):
    try:
        write()
    except Exception as error:
        return type(error).__name__
    return "returned"


def through_python(index):
    with open("/dev/full", "wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def main():
    small, large = faiss.IndexFlatIP(16), faiss.IndexFlatIP(16)
    small.add(np.ones((20, 16), np.float32))
    large.add(np.ones((20_000, 16), np.float32))
    found = {
        "small index, by path": attempt(lambda: faiss.write_index(small, "/dev/full")),
        "large index, by path": attempt(lambda: faiss.write_index(large, "/dev/full")),
        "small index, through a Python file": attempt(lambda: through_python(small)),
    }
    print(f"faiss {faiss.__version__}, write_index to a full disk")
    for name, outcome in found.items():
        print(f"{name}: {outcome}")
    return found["small index, by path"] == "returned" and found["small index, through a Python file"] != "returned"


sys.exit(0 if main() else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
