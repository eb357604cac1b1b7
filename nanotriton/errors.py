"""The exception tree; every message holds the value seen, the limit and the mend.

    NanotritonError
    ├── InvalidRequest      the request can't be served as it was sent       INVALID_ARG
    ├── Unavailable         it can't be served now; the same may work later  UNAVAILABLE
    ├── RunnerError         the runtime failed on this request               INTERNAL
    ├── DeviceLost          the GPU failed until the process that uses it ends  UNAVAILABLE
    ├── ArtifactError       a file that is not what it should be
    │   ├── CheckpointError     a checkpoint that can't be read or isn't a GPT
    │   ├── TokenizerError      a tokenizer that can't be read or doesn't fit
    │   ├── ManifestError       a manifest that is missing, unreadable or too new
    │   └── ParityError         an artifact that doesn't compute what its checkpoint does
    └── ServerError         tritonserver can't be found, started or reached

The status stands beside the class because it travels: from the engine's process through its
socket to the Triton adapters, which hand it to the client.
"""


class NanotritonError(Exception):
    """Anything that nanotriton refuses or fails on purpose; `status` is Triton's error code."""

    status = "INTERNAL"


class InvalidRequest(NanotritonError):
    """The request can't be served as it was sent."""

    status = "INVALID_ARG"


class Unavailable(NanotritonError):
    """The engine can't take the request now; the same request may work later."""

    status = "UNAVAILABLE"


class RunnerError(NanotritonError):
    """The runtime failed on this request."""


class DeviceLost(NanotritonError):
    """The GPU failed, and stays so until the process that uses it ends."""

    status = "UNAVAILABLE"


class ArtifactError(NanotritonError):
    """A file that is not what it should be."""


class CheckpointError(ArtifactError):
    """A checkpoint that can't be read, or that isn't a GPT."""


class TokenizerError(ArtifactError):
    """A tokenizer that can't be read, or that doesn't fit its model."""


class ManifestError(ArtifactError):
    """A manifest that is missing, unreadable, or of a format this version doesn't know."""


class ParityError(ArtifactError):
    """An artifact that doesn't compute what its checkpoint does."""


class ServerError(NanotritonError):
    """A tritonserver that can't be found, started or reached."""


def from_status(status: str, message: str) -> NanotritonError:
    """Rebuild the exception that crossed a socket as (status, message)."""
    known = {kind.status: kind for kind in (InvalidRequest, Unavailable)}
    return known.get(status, RunnerError)(message)
