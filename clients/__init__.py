"""Completions from a nanotriton server or its gateway; imports nothing else of ours.

    with CompletionClient("localhost:8001") as client:
        print(client.complete("def fib(n):", max_tokens=64).text)
        with client.stream("def fib(n):", max_tokens=64) as stream:
            for chunk in stream:
                print(chunk.text, end="", flush=True)

    CompletionClient("https://code.example", protocol="gateway", api_key="nt_...")

The parts, from the outside in: client, streams, attempts; tensors, messages, errors;
grpc_transport over grpc_wire, http_transport over http_wire (Triton) or gateway_wire.
"""

from clients.client import AsyncCompletionClient, CompletionClient
from clients.errors import (
    ClientError,
    InvalidRequest,
    RateLimited,
    ServerError,
    Superseded,
    Timeout,
    Unauthorized,
    Unavailable,
)
from clients.messages import Choice, Chunk, Completion, ServerInfo, Settings
from clients.streams import AsyncStream, Stream

__all__ = [
    "AsyncCompletionClient",
    "AsyncStream",
    "Choice",
    "Chunk",
    "ClientError",
    "Completion",
    "CompletionClient",
    "InvalidRequest",
    "RateLimited",
    "ServerError",
    "ServerInfo",
    "Settings",
    "Stream",
    "Superseded",
    "Timeout",
    "Unauthorized",
    "Unavailable",
]
