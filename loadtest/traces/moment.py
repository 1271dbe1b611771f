"""Dates in traces, as seconds."""

from datetime import UTC, datetime


def seconds(text: str) -> float | None:
    """Of an ISO date and time, such as ``2023-11-16 18:15:46.6805900``, in UTC unless it says so. None: no date."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
