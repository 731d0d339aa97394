"""A server's limit of open files."""

import subprocess
import sys

PROGRAM = """
import resource
from services.__main__ import allow_open_files
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)
"""


def test_a_server_may_open_as_many_files_as_the_machine_lets_it():
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    soft, now, hard = map(int, output.split())
    assert now == hard
    assert soft == (hard if hard >= 0 else 1 << 20)
