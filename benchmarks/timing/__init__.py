"""Where time goes: a step's and a completion's parts, the floor under them, two clients' clocks."""
