"""What TransformerLens needs for what examples/bench times: GPT-2 small's sizes, random weights, f32, on this machine.

    pip install torch transformer-lens
    python examples/bench/times_of_transformer_lens.py [--rounds 5] [--processed]

Prints one JSON object for each case, as `cargo run --release --example bench -- --json` does. The weights are as they are
(TransformerLens' own default); --processed has them folded and centred first, which takes it most of a minute.
"""

import argparse
import json
import os
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
started = time.perf_counter()

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

IMPORTED = time.perf_counter() - started


def seconds(run, rounds):
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return sorted(times)[rounds // 2]


def tell(case, time):
    print(json.dumps({"case": case, "seconds": round(time, 6)}), flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--processed", action="store_true")
    arguments = arguments.parse_args()
    torch.set_grad_enabled(False)
    tell("import", IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        made = transformers.GPT2LMHeadModel(transformers.GPT2Config())
        made.save_pretrained(folder)
        tokenizers = transformers.PreTrainedTokenizerFast(tokenizer_object=one_word_tokenizer(), eos_token="<|endoftext|>")
        tokenizers.save_pretrained(folder)
        del made
        started = time.perf_counter()
        model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
        tell("load", time.perf_counter() - started)
    if arguments.processed:
        started = time.perf_counter()
        model.enable_compatibility_mode(disable_warnings=True)
        tell("weight processing", time.perf_counter() - started)
    for rows, length in [(8, 64), (1, 256), (1, 1024), (1, 64), (1, 16)]:
        ids = [[(row * 7919 + pos * 104729 + 13) % 50000 for pos in range(length)] for row in range(rows)]
        tokens = torch.tensor(ids)
        tell(f"forward with cache, {rows} x {length}", seconds(lambda: model.run_with_cache(tokens), arguments.rounds))


def one_word_tokenizer():
    """A tokenizer, since loading asks for one; no text is tokenized here."""
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))


main()
