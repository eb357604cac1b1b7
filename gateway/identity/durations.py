"""Spans of time as people type them: 90s, 30m, 8h or 7d; for argparse's `type`."""

import argparse
import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_DAYS = 3650


def parse_duration(text: str) -> timedelta:
    """A time such as 90s, 30m, 8h or 7d."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if span is None or span > timedelta(days=_MAX_DAYS):
        raise argparse.ArgumentTypeError(
            f"{text[:20]!r} is no time: give one such as 90s, 30m, 8h or 7d, {_MAX_DAYS}d at most"
        )
    return span
