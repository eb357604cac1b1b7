"""Hugging Face's own server, `transformers serve`: paged attention and continuous batching.

Comes in: a checkpoint, and its tokenizer turned into one of theirs. It takes no `ignore_eos`, so
its model is told of no end of text. Runs inside the peer's own virtual environment.
"""

import json
import os
import sys
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from benchmarks.peers.foreign import ForeignServer, free_port, serve_foreign
from benchmarks.peers.serving import Options, parse
from benchmarks.peers.transformers import load_model
from nanotriton.contract import RANKS_FILE, TOKENIZER_FILE

# By default it takes most of the machine's memory, and minutes to fill it with zeros.
NUM_PAGES, MAX_BATCH = 80, 512  # of 256 tokens each, and tokens a step


def main() -> int:
    """Serve until stdin ends."""
    options = parse()
    folder = options.work / "served"
    if not folder.is_dir():
        write_model(options, folder)
    port = free_port()
    threads = str(options.num_threads)
    return serve_foreign(
        ForeignServer(
            [
                *(str(Path(sys.executable).with_name("transformers")), "serve", str(folder)),
                *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu"),
                *("--continuous-batching", "--cb-num-blocks", str(NUM_PAGES)),
                *("--cb-max-batch-tokens", str(MAX_BATCH)),
            ],
            {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads},
            url=f"127.0.0.1:{port}",
            health_path="/health",
            protocol="hugging face",
            packages=("torch", "transformers"),
        )
    )


def write_model(options: Options, folder: Path) -> None:
    """The checkpoint and its tokenizer as transformers loads them."""
    assert options.tokenizer is not None
    model = load_model(options.checkpoint)
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = model.config.bos_token_id = None
    spec = json.loads((options.tokenizer / TOKENIZER_FILE).read_text())
    converter = TikTokenConverter(
        str(options.tokenizer / RANKS_FILE), spec["pattern"], extra_special_tokens=None
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=converter.converted())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
