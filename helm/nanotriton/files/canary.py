"""Whether this pod's server completes: the readiness of a server's container.

Asks both doors for one real token, as the server's watchdog does; Triton's own answers stay good
when a model's process is dead. A server that is busy, or an engine that is starting again, is no
reason to leave the endpoints: callers are told so and go elsewhere. Ends with 1 and one line when
it isn't ready. Knows nothing of Kubernetes.
"""

import os
import sys

from nanotriton.canary import DOORS, check_door
from nanotriton.errors import ServerError, Unavailable

URL = os.environ.get("TRITON_URL", "http://127.0.0.1:8000")
TIMEOUT_S = 10.0


def main() -> int:
    """Ask, and tell what is wrong."""
    for model in DOORS:
        try:
            check_door(model, URL, "def f(", TIMEOUT_S)
        except Unavailable as error:
            print(f"busy: {error}")
        except ServerError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
