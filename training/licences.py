"""A package's metadata in; its licence as one SPDX expression, and whether it is permissive, out.

Newer metadata holds an expression; older metadata holds classifiers or free text, which are
translated by table. What the tables do not know becomes a ``LicenseRef``, and silence becomes
``unknown``: neither is permissive until the caller allows it by that name. Knows nothing of files.
"""

import re
from importlib import metadata

UNKNOWN = "unknown"

# Licences that ask for attribution at most: SPDX identifiers (spdx.org/licenses), and BSD where the
# metadata do not say how many clauses.
PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BlueOak-1.0.0", "BSD"}
    | {"BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT"}
    | {"MIT-0", "MIT-CMU", "NCSA", "PostgreSQL", "PSF-2.0", "Python-2.0", "Unlicense", "UPL-1.0"}
    | {"X11", "Zlib", "ZPL-2.1"}
)

# Trove classifiers, by their last part (pypi.org/classifiers).
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "CMU License (MIT-CMU)": "MIT-CMU",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "University of Illinois/NCSA Open Source License": "NCSA",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}
_GENERIC_CLASSIFIERS = frozenset({"OSI Approved", "DFSG approved"})

# Free text without "the", "license", "version" and everything that is no letter or digit.
_FREE_TEXTS = {
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache20": "Apache-2.0",
    "apachesoftware": "Apache-2.0",
    "apachesoftware20": "Apache-2.0",
    "2clausebsd": "BSD-2-Clause",
    "bsd2clause": "BSD-2-Clause",
    "simplifiedbsd": "BSD-2-Clause",
    "3clausebsd": "BSD-3-Clause",
    "bsd3clause": "BSD-3-Clause",
    "modifiedbsd": "BSD-3-Clause",
    "newbsd": "BSD-3-Clause",
    "bsd": "BSD",
    "isc": "ISC",
    "expat": "MIT",
    "mit": "MIT",
    "mpl20": "MPL-2.0",
    "psf": "PSF-2.0",
    "python": "PSF-2.0",
    "pythonsoftwarefoundation": "PSF-2.0",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
    "zpl21": "ZPL-2.1",
}
_NOISE = re.compile(r"\bthe\b|\blicen[sc]ed?\b|version|[^a-z0-9]")
_IDENTIFIER = re.compile(r"[A-Za-z0-9.+-]+")
_OPERATORS = frozenset({"AND", "OR", "WITH"})


def declared_licence(fields: metadata.PackageMetadata) -> str:
    """The licence that a distribution's metadata declare, or ``unknown``.

    ``License-Expression`` goes first (PEP 639), then the classifiers (all of them hold, so they are
    joined by AND), then the first line of ``License``.
    """
    if "License-Expression" in fields:
        return fields["License-Expression"]
    classifiers = fields.get_all("Classifier") or []
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    licences = [_from_classifier(name) for name in named if name not in _GENERIC_CLASSIFIERS]
    if licences:
        return " AND ".join(dict.fromkeys(licences))
    return licence_from_text("\n".join(fields.get_all("License") or []))


def licence_from_text(text: str) -> str:
    """The licence that the first line of a free text names, or ``unknown``."""
    lines = text.strip().splitlines()
    if not lines:
        return UNKNOWN
    first = lines[0].strip()
    key = _NOISE.sub("", first.lower())
    if key in _FREE_TEXTS:
        return _FREE_TEXTS[key]
    return first if _is_expression(first) else UNKNOWN


def _from_classifier(name: str) -> str:
    if name in _CLASSIFIERS:
        return _CLASSIFIERS[name]
    return "LicenseRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def _is_expression(text: str) -> bool:
    """True for identifiers joined by operators, as in ``MPL-2.0 AND MIT``."""
    words = text.replace("(", " ").replace(")", " ").split()
    return len(words) % 2 == 1 and all(
        (word in _OPERATORS) if i % 2 else _IDENTIFIER.fullmatch(word) is not None
        for i, word in enumerate(words)
    )


def is_permissive(expression: str, also_allowed: frozenset[str] = frozenset()) -> bool:
    """True when some choice of the expression's ORs needs permissive or allowed licences only.

    An expression that does not parse is not permissive.
    """
    allowed = frozenset(name.lower() for name in PERMISSIVE | also_allowed)
    if expression.lower() in allowed:
        return True
    words = expression.replace("(", " ( ").replace(")", " ) ").split()
    try:
        holds = _alternatives(words, allowed)
    except IndexError:  # it ends too early
        return False
    return holds and not words


def _alternatives(words: list[str], allowed: frozenset[str]) -> bool:
    holds = _conjunction(words, allowed)
    while words and words[0].upper() == "OR":
        words.pop(0)
        holds = _conjunction(words, allowed) or holds  # evaluated first: it takes its words
    return holds


def _conjunction(words: list[str], allowed: frozenset[str]) -> bool:
    holds = _licence(words, allowed)
    while words and words[0].upper() == "AND":
        words.pop(0)
        holds = _licence(words, allowed) and holds
    return holds


def _licence(words: list[str], allowed: frozenset[str]) -> bool:
    word = words.pop(0)
    if word == "(":
        holds = _alternatives(words, allowed)
        return words.pop(0) == ")" and holds
    holds = word.lower() in allowed
    if words and words[0].upper() == "WITH":  # an exception only adds permissions
        words.pop(0)
        words.pop(0)
    return holds
