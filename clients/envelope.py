"""What goes beside a request's tensors: headers, such as a trace's, and the request's id.

Comes in: what the caller gave. Goes out: an Envelope that both protocols surely carry as it is.
Knows nothing of gRPC or HTTP; there headers are metadata, and here they are headers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clients.errors import InvalidRequest

MAX_ID_CHARS = 256
# What HTTP/1.1 and gRPC's metadata have in common; "grpc-" and what ends in "-bin" are gRPC's own.
_NAME = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
_VALUE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Envelope:
    """`headers` by lower-case name; `request_id` stands in Triton's log and traces."""

    headers: tuple[tuple[str, str], ...] = ()
    request_id: str = ""


EMPTY = Envelope()


def envelope(headers: Mapping[str, str] | None, request_id: str | None) -> Envelope:
    """Raises InvalidRequest for a name or a value that one of the protocols can't carry."""
    if not headers and not request_id:
        return EMPTY
    pairs = tuple((name.lower(), value) for name, value in (headers or {}).items())
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"a header's name is {name!r:.80}: give letters, digits and - _ . alone, nothing "
                "that begins with grpc- or ends in -bin"
            )
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(f"the header {name} holds more than printable ASCII: encode it")
    if request_id and not (len(request_id) <= MAX_ID_CHARS and _VALUE.fullmatch(request_id)):
        raise InvalidRequest(
            f"request_id has {len(request_id)} characters, allowed are {MAX_ID_CHARS} of printable "
            "ASCII: give a shorter one"
        )
    return Envelope(pairs, request_id or "")
