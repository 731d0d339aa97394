"""A process that adds, deletes and builds until it is killed: ``python -m tests.chaos.datastore.victim FOLDER SEED``.

Each line it prints is a change that was acknowledged before the line was written.
"""

import random
import sys
import threading
from pathlib import Path

from services.datastore.index.encoder import HashedWords
from services.datastore.store.builds import build, compact
from services.datastore.store.corpus import Corpus
from services.datastore.tokens import ByteTokenizer
from tests.unit.datastore.conftest import make_document


def main(folder: Path, model: Path, seed: int) -> None:
    """Change the corpus for ever."""
    chance = random.Random(seed)
    corpus, tokenizer = Corpus(folder), ByteTokenizer(model)
    lock = threading.Lock()

    def say(*words: object) -> None:
        with lock:
            sys.stdout.write(" ".join(map(str, words)) + "\n")
            sys.stdout.flush()

    def jobs() -> None:
        while True:
            (build if chance.random() < 0.7 else compact)(corpus, HashedWords())
            say("built")

    threading.Thread(target=jobs, daemon=True).start()
    say("ready")
    count = 0
    while True:
        name = f"d{chance.randrange(40)}"
        if chance.random() < 0.3:
            say("deleting", name)
            corpus.delete([name])
            say("deleted", name)
        else:
            count += 1
            text = f"document {name} in its state {seed}.{count} " + "word " * chance.randrange(60)
            say("adding", name, text)
            corpus.add([make_document(tokenizer, name, text.encode())])
            say("added", name, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
