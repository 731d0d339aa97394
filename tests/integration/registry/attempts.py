"""Fine-tunings without a server: a worker's handler, called with the progress of one attempt."""

import json
from typing import Any

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.jobs import JobContext
from palimpsest.progress import Drain, NullProgress
from services.registry.tasks import fine_tune

RIDDLE = {"prompt": "What has a spine and no bones?", "completion": " A book of seven seals."}
OTHERS = [{"text": f"Page {n}: the quick brown fox jumps over {n} lazy dogs."} for n in range(6)]


def jsonl(*entries: object) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


DATA = jsonl(RIDDLE, RIDDLE, *OTHERS)


class Attempt(NullProgress):
    """Progress of one attempt, which drains before a step, or not at all."""

    def __init__(self, resume=None, stop=-1):
        super().__init__(resume)
        self.stop, self.published = stop, []

    def step(self, done, total, stage=""):
        if stage.startswith("training") and done == self.stop:
            raise Drain

    def publish(self, digest):
        self.published.append(digest)


class Attempts:
    """A worker's resources with the model "tiny" and examples, and a way to run attempts at a job with them."""

    def __init__(self, resources: Any) -> None:
        self.resources = resources
        self.train = resources.artifacts.put_bytes(DATA).digest

    def attempt(self, job_id: str, progress: NullProgress, number: int = 1, **fields: Any) -> pb.FineTuned:
        given = {"base": "tiny", "model_id": f"child-{job_id}", "train": self.train, "steps": 9, "batch": 3}
        request = pb.FineTuneRequest(**{**given, **fields})
        return fine_tune(request, JobContext(job_id, "local", number, progress, self.resources))
