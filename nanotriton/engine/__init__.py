"""The engine: requests in, token events out; a process of its own behind a UNIX socket."""
