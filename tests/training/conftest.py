"""A small real corpus, prepared once: part of the standard library, 512 token ids."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training.bins import write_bins
from training.bpe import TokenizerSpec, load_tokenizer, save_tokenizer, train_tokenizer
from training.corpus import CorpusConfig, build_corpus, read_documents
from training.sources import standard_library

VOCAB_SIZE = 512


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models lose time by threads, and on busy cores a lot: 29 s instead of 1 for 60 steps."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus.json, both splits as text and as ids, and the tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    roots = tuple(standard_library() / name for name in ("json", "collections", "email"))
    build_corpus(CorpusConfig(roots, seed=1, val_share=0.2), folder)
    _, spec = train_tokenizer((d.text for d in read_documents(folder, "train")), VOCAB_SIZE)
    save_tokenizer(spec, folder)
    write_bins(folder, spec)
    return folder


@pytest.fixture(scope="session")
def spec(data_dir: Path) -> TokenizerSpec:
    return load_tokenizer(data_dir)
