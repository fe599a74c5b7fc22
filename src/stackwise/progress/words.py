"""What progress says: spans of time in words, where a fit is, what it has reached."""

from typing import Any


def spoken(seconds: float) -> str:
    """A span of time as one says it: `40 s`, `3 min 20 s`, `25 min`, `2 h 10 min`, `3 days 4 h`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return _two(whole, 60, "min", "s")
    if whole < 3570:
        return f"{round(whole / 60)} min"
    if whole < 86400 - 30:
        return _two(round(whole / 60), 60, "h", "min")
    hours = round(whole / 3600)
    return _two(hours, 24, "day" if hours < 48 else "days", "h")


def time_left(seconds: float | None, at_most: bool) -> str:
    """`about 3 min left`, or nothing where it is not known."""
    if seconds is None or seconds < 0.5:
        return ""
    return f"{'at most' if at_most else 'about'} {spoken(seconds)} left"


def _two(whole: int, size: int, large: str, small: str) -> str:
    rest = whole % size
    return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")


def share_done(event: dict[str, Any]) -> float | None:
    """The part of the work that is done, 0 to 1, or None."""
    if "done" in event:
        return float(event["done"])
    steps = ("step", "steps") if event.get("steps") else ("epoch", "max_epochs")
    now, of = (event.get(name) for name in steps)
    return None if now is None or not of else min(float(now) / float(of), 1.0)


def said(event: dict[str, Any]) -> str:
    """What a fit does now: `train epoch 3/100  train_loss 0.21`."""
    if event.get("note"):
        return str(event["note"])
    words = [str(event.get("phase") or "")]
    if event.get("max_epochs"):
        words[0] += f" epoch {event.get('epoch', 0)}/{event['max_epochs']}"
    values = list((event.get("metrics") or {}).items())[:3]
    words += [f"{name} {value:.4g}" for name, value in values if value is not None]
    return "  ".join(words).strip()


def part_of(event: dict[str, Any], place: int, count: int, name: str) -> dict[str, Any]:
    """The event of a fit that is number `place` (from 0) of `count` alike, such as folds.

    Those to come are taken to last as long as this one.
    """
    left = event.get("seconds_left")
    if left is not None:
        left += (count - place - 1) * (event.get("seconds", 0.0) + left)
    named = {"phase": f"{name} {place + 1} of {count}", "seconds_left": left}
    return event | named | {"done": (place + (share_done(event) or 0.0)) / count}


def after(last: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The event, with the metrics of its phase's last epoch where it brings none."""
    if event.get("metrics") or event.get("phase") != last.get("phase"):
        return event
    return event | {"metrics": last.get("metrics")}
