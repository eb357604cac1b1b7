"""Completions from a nanotriton server over gRPC or HTTP; imports nothing else of ours.

    with CompletionClient("localhost:8001") as client:
        print(client.complete("def fib(n):", max_tokens=64).text)
        with client.stream("def fib(n):", max_tokens=64) as stream:
            for chunk in stream:
                print(chunk.text, end="", flush=True)

The parts, from the outside in: client, streams, attempts; tensors, messages, errors;
grpc_transport over grpc_wire, http_transport over http_wire.
"""

from clients.client import AsyncCompletionClient, CompletionClient
from clients.errors import ClientError, InvalidRequest, ServerError, Timeout, Unavailable
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
    "ServerError",
    "ServerInfo",
    "Settings",
    "Stream",
    "Timeout",
    "Unavailable",
]
