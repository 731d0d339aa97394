"""A corpus whose writer and builder is killed: valid at once, nothing acknowledged lost, nothing deleted back."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.datastore.files import verify_checksums
from services.datastore.index.encoder import HashedWords
from services.datastore.store.builds import build
from services.datastore.store.corpus import Corpus
from services.datastore.tokens import ByteTokenizer
from tests.unit.datastore.conftest import spec_for

ROOT = Path(__file__).resolve().parents[3]
TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "3"))
MOST_LINES = 700
"""About a second and a half of a victim's work: some builds and compactions are under way in it."""


def killed_after(count: int, folder: Path, model: Path, seed: int) -> list[str]:
    """Run a victim, kill it once it has written so many lines, and return all that it has written by then."""
    command = [sys.executable, "-m", "tests.chaos.datastore.victim", folder, model, seed]
    lines: list[str] = []
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        for line in victim.stdout:
            if line.endswith("\n"):
                lines.append(line[:-1])
                if len(lines) == count:
                    victim.send_signal(signal.SIGKILL)
    assert len(lines) >= count, "the victim ended by itself"
    return lines


def after(state: dict[str, str], lines: list[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What was acknowledged, and the states that a change that was under way may have made of it."""
    under_way = None
    for line in lines:
        what, _, rest = line.partition(" ")
        name, _, text = rest.partition(" ")
        if what in ("adding", "deleting"):
            under_way = (name, text if what == "adding" else None)
        elif what in ("added", "deleted"):
            under_way = None
            if what == "added":
                state[name] = text
            else:
                state.pop(name, None)
    allowed = [state]
    if under_way is not None:
        name, text = under_way
        allowed.append({k: v for k, v in {**state, name: text}.items() if v is not None})
    return state, allowed


@pytest.mark.chaos
@pytest.mark.timeout(120 + 20 * TRIALS)
def test_killed_at_random_points(tmp_path: Path, tiny_model: Path):
    chance = random.Random(int(os.environ.get("PALIMPSEST_CHAOS_SEED", "0")) or None)
    folder = tmp_path / "c"
    folder.mkdir()
    Corpus.create(folder, spec_for(ByteTokenizer(tiny_model))).close()
    state: dict[str, str] = {}
    epoch = 0
    for trial in range(TRIALS):
        lines = killed_after(chance.randrange(1, MOST_LINES), folder, tiny_model, chance.randrange(1 << 30))
        state, allowed = after(state, lines)
        corpus = Corpus(folder)
        view = corpus.view()
        assert not view.quarantined
        assert not view.lost
        assert view.epoch >= epoch
        for segment in corpus.manifest.segments:
            verify_checksums(folder / segment.name)
        found = {f.head.document: bytes(f.document.data).decode() for f in corpus.documents()}
        assert found in allowed, f"trial {trial}, after {len(lines)} lines"
        build(corpus, HashedWords())
        rebuilt = {f.head.document: bytes(f.document.data).decode() for f in corpus.documents()}
        assert rebuilt == found
        assert len(list(folder.glob("seg-*"))) == len(corpus.manifest.segments), (
            "what crashed jobs left is cleared"
        )
        state, epoch = dict(found), corpus.view().epoch
        corpus.close()
    assert state
