"""A text in; the name of the first kind of secret in it out, never the secret.

The patterns are the published shapes of keys and tokens (gitleaks' rules name most of them), held
narrow: prose about passwords and the placeholders of manuals are no secrets. Knows nothing of
files.
"""

import math
import re
from collections import Counter

_PLACEHOLDER = (
    r"(?i:(?:my|your|user)?_?(?:pass(?:word|wd|phrase)?|pw|pwd|secret|token|key|user(?:name)?)"
    r"|changeme|example|foo|bar|x+)"
)

_PATTERNS = {
    "private key": (
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:\s|\\n|[\"'+]|[A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/=]{40}"
    ),
    "AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    "AWS secret key": r"(?i:aws)[\w.\-]{0,30}[\"']?\s{0,3}[:=]\s{0,3}[\"'][A-Za-z0-9/+]{40}[\"']",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}",
    "Slack webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{7,}/B[A-Z0-9]{7,}/[A-Za-z0-9]{20,}",
    "Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}",
    "Google API key": r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    "OpenAI or Anthropic key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "Hugging Face token": r"\bhf_[A-Za-z]{34}\b",
    "PyPI token": r"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "SendGrid key": r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "password in a URL": (
        r"\b[a-z][a-z0-9+.-]{1,15}://[A-Za-z0-9._~-]{1,64}:"
        rf"(?!{_PLACEHOLDER}@)[A-Za-z0-9._~!$&*+=-]{{5,128}}@[A-Za-z0-9]"
    ),
}
_SEARCHES = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}

# Last, because it is the loosest: a long random-looking literal under a telling name.
_ASSIGNED_NAME = "assigned secret"
_ASSIGNED = re.compile(
    r"(?i:api_?key|secret|token|passwd|password)[\"']?\s{0,3}[:=]\s{0,3}"
    r"[\"']([A-Za-z0-9+/=_-]{20,200})[\"']"
)
_MIN_BITS_PER_CHAR = 3.7  # between identifiers of 20 characters (under 3.5) and random ones (4 up)

NAMES = (*_PATTERNS, _ASSIGNED_NAME)


def secret_kind(text: str) -> str | None:
    """The kind of the first pattern found in ``text``, one of NAMES, or None."""
    for name, pattern in _SEARCHES.items():
        if pattern.search(text):
            return name
    if any(_looks_random(match[1]) for match in _ASSIGNED.finditer(text)):
        return _ASSIGNED_NAME
    return None


def _looks_random(literal: str) -> bool:
    """Digits, letters, and an entropy that words do not reach."""
    if not (any(c.isdigit() for c in literal) and any(c.isalpha() for c in literal)):
        return False
    shares = [count / len(literal) for count in Counter(literal).values()]
    return -sum(share * math.log2(share) for share in shares) >= _MIN_BITS_PER_CHAR
