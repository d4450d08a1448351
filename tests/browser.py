"""Debian's Chromium without a window, cut off from every network but loopback."""

import json
import subprocess
from pathlib import Path


def look(url: str, folder: Path, patience: int = 10_000) -> tuple[str, set[str]]:
    """The page as it stands after `patience` ms of its own time, and every network address that it asked for."""
    log = folder / "net.json"
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--log-net-log={log}",
        "--window-size=1280,2400",
        f"--virtual-time-budget={patience}",
        f"--screenshot={folder / 'screenshot.png'}",
        "--dump-dom",
        url,
    ]
    seen = subprocess.run(words, capture_output=True, text=True, timeout=180, check=True)
    return seen.stdout, _asked(log)


def _asked(log: Path) -> set[str]:
    text = log.read_text()
    try:
        known = json.loads(text)
    except ValueError:  # not closed where the browser was ended early
        known = json.loads(text.rstrip().rstrip(",") + "]}")
    params = [e.get("params", {}) for e in known["events"]]
    # what the browser asks for on its own account (its update, the time) has no page as its initiator
    return {p["url"] for p in params if p.get("initiator", "not an origin") != "not an origin" and "url" in p}
