"""Who asks: API keys out of the database, or signed tokens; at the open door, whoever is here.

headers ▶ credentials ▶ guard ─┬─▶ known_keys ▶ keys ▶ database
                               └─▶ tokens ▶ key_set
"""

from gateway.identity.guard import Guard, require_admin
from gateway.identity.loopback import check_open
from gateway.identity.tokens import JwtConfig

__all__ = ["Guard", "JwtConfig", "check_open", "require_admin"]
