"""Prompts that nobody has asked before, of the lengths that editors send.

Comes in: a label, a seed. Goes out: texts no two of which have a beginning in common, so that no
cache answers for the model. Knows nothing of who is asked.
"""

from functools import cache
from itertools import islice

from benchmarks.common.typing_users import library_files
from benchmarks.serving.workload import demo_tokenizer, questions, tokens_of


def code_prompts(num_prompts: int, seed: int, label: str) -> list[str]:
    """The workload's prompts, the same for the same seed, each behind a line with the label."""
    asked = questions(_library_tokens(), demo_tokenizer(), str(seed))
    return [
        f"# {label} {number:05}\n{one.prompt}"
        for number, one in enumerate(islice(asked, num_prompts))
    ]


@cache
def _library_tokens() -> list[list[int]]:
    return tokens_of(library_files(), demo_tokenizer())
