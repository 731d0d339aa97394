#!/usr/bin/env bash
# Two threads may not call transformers' from_pretrained at the same time, nor may others compute meanwhile. While it
# builds a model it makes the model's dtype torch's default dtype (and keeps weights from being tied), for the whole
# process and not for its thread. Where two builds overlap, each restores what it found: a process can be left with
# bfloat16 or float16 as its default for good, without an error, and a tied output matrix can be missing.
#
# Exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cat > "$folder/look.py" <<'PYTHON'
import os
import sys
import tempfile
import threading

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
import torch
import transformers

transformers.utils.logging.disable_progress_bar()
ROUNDS = 40
DTYPES = (torch.bfloat16, torch.float16)


def load(folder, dtype, errors):
    try:
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except Exception as error:
        errors.append(repr(error))


def main():
    small = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, vocab_size=128)
    config = transformers.LlamaConfig(**small, num_hidden_layers=24, tie_word_embeddings=True)
    left, seen, errors = 0, set(), []
    done = threading.Event()

    def compute():
        while not done.is_set():
            seen.add(str(torch.zeros(1).dtype))

    with tempfile.TemporaryDirectory() as folder:
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        watcher = threading.Thread(target=compute)
        watcher.start()
        for _ in range(ROUNDS):
            loads = [threading.Thread(target=load, args=(folder, dtype, errors)) for dtype in DTYPES]
            for each in loads:
                each.start()
            for each in loads:
                each.join()
            left += torch.get_default_dtype() != torch.float32
            torch.set_default_dtype(torch.float32)
        done.set()
        watcher.join()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"torch.zeros(1) in a third thread: {', '.join(sorted(seen))}")
    print(f"rounds of two loads that left another default dtype than float32: {left} of {ROUNDS}")
    print(f"loads that raised: {len(errors)}", *errors[:1])
    return left > 0 or len(seen) > 1


sys.exit(0 if main() else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
