"""The volumes of the stack under test, and its Redis, searched for texts from within the containers."""

import json
import subprocess
from collections.abc import Sequence

from services.unlearning.patterns import Secrets
from tests.compose.containers import container

_SEARCH = """
import json, sys, time
import redis
from palimpsest.settings import Settings
from services.unlearning.absence import search_folder
from services.unlearning.absence_in_redis import search_redis
from services.unlearning.patterns import Secrets
settings, secrets = Settings(), Secrets(json.load(sys.stdin))
client = redis.Redis.from_url(settings.redis_url)
while any(client.info("persistence")[f"aof_rewrite_{how}"] for how in ("in_progress", "scheduled")):
    time.sleep(0.1)
found = search_folder(settings.state_dir, secrets).found + search_redis(client, secrets).found
print(json.dumps([each.place for each in found]))
"""


def places_with(texts: Sequence[str]) -> list[str]:
    """Files of the volumes and keys that have one of the texts in any form."""
    search = ["docker", "exec", "-i", container("worker-cpu"), "python3", "-c", _SEARCH]
    told = subprocess.run(search, input=json.dumps(list(texts)).encode(), check=True, capture_output=True)
    places = json.loads(told.stdout)
    # The volume of Redis is its own container's alone.
    read = ["docker", "exec", container("redis"), "sh", "-c", "cat /data/appendonlydir/*"]
    if Secrets(texts).within(subprocess.run(read, check=True, capture_output=True).stdout):
        places.append("the append-only file of Redis")
    return places
