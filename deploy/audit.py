"""Look up everything that is installed for known vulnerabilities, and say what could not be looked up.

``make audit``. pip-audit itself ends well where a service knows none of the packages; here the exit status is 0 only
if every package was looked up and none has a known vulnerability, 1 if one has, and 2 if some could not be looked up.
"""

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

OURS = "palimpsest-lm"
SERVICES = ("pypi", "osv")


def installed() -> dict[str, str]:
    """Names and versions, without the part that names a build: torch 2.8.0+cpu is looked up as 2.8.0."""
    found = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version.partition("+")[0] for d in distributions()}
    return {name: found[name] for name in sorted(found) if name != OURS}


def ask(auditor: str, service: str, packages: dict[str, str]) -> list[dict] | None:
    """What one service says about each package; None, and the reason on stderr, where it does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "requirements.txt"
        listing.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [auditor, "-r", str(listing), "-s", service, "-f", "json", "--no-deps", "--disable-pip"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            return json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            said = "" if isinstance(error, subprocess.TimeoutExpired) else done.stderr.strip()
            print(f"{service} does not answer: {said.rpartition(chr(10))[2] or error}", file=sys.stderr)
            return None


def main(auditor: str) -> int:
    """Ask the services in turn about what is not known yet; report."""
    packages = installed()
    open_, vulnerable = dict(packages), {}
    for service in SERVICES:
        for entry in ask(auditor, service, open_) or []:
            if "skip_reason" not in entry:
                open_.pop(entry["name"], None)
                if entry["vulns"]:
                    vulnerable[entry["name"]] = entry["vulns"]
        if not open_:
            break
    for name, vulnerabilities in vulnerable.items():
        for each in vulnerabilities:
            fixed = ", ".join(each["fix_versions"]) or "none yet"
            print(f"{name} {packages[name]}: {each['id']}; fixed in {fixed}")
    asked = len(packages) - len(open_)
    print(f"{asked} of {len(packages)} packages looked up, {len(vulnerable)} with known vulnerabilities")
    if not asked:
        print("NOTHING was checked: no vulnerability service answers from here.", file=sys.stderr)
    elif open_:
        print(f"not looked up: {', '.join(open_)}", file=sys.stderr)
    return 1 if vulnerable else 2 if open_ else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
