"""``python -m tests.compose.without_devices COMPOSE_FILE``: print the file without its services' GPU reservations."""

import sys
from pathlib import Path

import yaml


def main(path: Path) -> None:
    """Print it; nothing else is changed."""
    document = yaml.safe_load(path.read_text())
    for service in document["services"].values():
        reservations = service.get("deploy", {}).get("resources", {}).get("reservations", {})
        reservations.pop("devices", None)
    print(yaml.safe_dump(document, sort_keys=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
