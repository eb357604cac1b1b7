"""What callers see: paths, JSON in and out, server-sent events, the description of it all."""
