"""What the commands say of volumes and units: as text, as JSON with the documented fields, and while units change."""
import json
import os
import pty
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from platform_under_test import PROGRAM, message

ADDRESS = "user@example.org"
DOCUMENT = (Path(__file__).resolve().parent.parent / "docs/status.md").read_text()


def documented(section):
    text = DOCUMENT.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`.*?) \|", text, re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def say(platform, *words):
    return json.loads(platform.command(*words, "--json").stdout)


def deliver(platform, count):
    with platform.smtp() as client:
        for n in range(count):
            client.sendmail("s@example.net", [ADDRESS], message(f"number {n}", os.urandom(2000).hex() + "\n"))


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_fields_are_documented(platform):
    deliver(platform, 3)
    volume = say(platform, "volume", "show")
    assert volume == {**volume, "state": "healthy", "copies": 2, "min_copies": 2, "ejections": 0, "thin_lsn": 0}
    assert set(volume) == documented("A volume") - {"why"}
    assert say(platform, "volume", "list")[0].keys() == volume.keys()
    always = documented("A unit") - {"lacks_segments", "lacks_bytes", "resilver_rate", "resilver_eta_s", "sole_lsn", "parity",
                                     "lacks_parity"}
    for name in "ab":
        assert set(say(platform, "unit", "show", name)) == always
    assert set(say(platform, "unit", "show", "c")) == always - {"lsn_first", "lsn_last"}
    for unit in say(platform, "unit", "list"):
        assert set(unit) <= always - {"vote", "epoch"}
    a = say(platform, "unit", "show", "a")
    assert a["state"] == "replica" and a["vote"] == {"promised": volume["epoch"], "epoch": volume["epoch"]}
    assert a["lsn_first"] == 1 and a["lsn_last"] == volume["lsn"]
    assert a["writes"] >= volume["batches"] and a["bytes_written"] >= volume["bytes_written"]
    latency = a["write_latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] and latency["count"] >= 3
    assert volume["commit_latency_us"]["count"] >= 3
    assert abs(a["since"] - time.time()) < 300


def test_text(platform):
    text = platform.command("unit", "show", "a").stdout
    for words in ("unit a\n", "state        replica, since 20", "holds        LSN 1 to ", "vote         epoch ", "scrubbed     never",
                  "0 found (0 misdirected)"):
        assert words in text, words
    text = platform.command("volume", "show").stdout
    for words in ("volume main\n", "state        healthy", "last scrub   never", "share a failure domain"):
        assert words in text, words
    result = platform.command("unit", "show", "x", check=False)
    assert result.returncode == 1 and "no such unit" in result.stderr
    assert platform.command("unit", "show", check=False).returncode == 2


def test_stopped(new_platform):
    platform = new_platform()
    deliver(platform, 2)
    lsn = say(platform, "volume", "show")["lsn"]
    assert platform.stop() == 0
    a = say(platform, "unit", "show", "a")
    assert a["state"] == "present" and a["role"] == "replica" and a["vote"]["epoch"] == a["vote"]["promised"] >= 2
    assert 0 < a["lsn_last"] <= lsn
    assert say(platform, "volume", "show")["state"] == "stopped"
    assert "state        present" in platform.command("unit", "show", "a").stdout
    result = platform.command("unit", "list", "--watch", check=False)
    assert result.returncode == 1 and "no server runs" in result.stderr
    (platform.folder / "a" / "vote").write_bytes(b"x" * 20)
    assert say(platform, "unit", "show", "a")["why"] == "its vote is damaged"


@pytest.fixture
def slow(new_platform):
    """Some segments, brought to a spare at 1 MiB a second."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", resilver_rate="1M")
    platform.start()
    deliver(platform, 900)
    return platform


def test_resilver_is_seen(slow):
    os.rename(slow.folder / "b", slow.folder / "gone")
    until(lambda: say(slow, "unit", "show", "b")["state"] == "ejected")
    b = say(slow, "unit", "show", "b")
    assert b["why"] and b["lsn_first"] == 1 and b["lsn_last"] > 900
    until(lambda: say(slow, "unit", "show", "c").get("resilver_rate"))
    c = say(slow, "unit", "show", "c")
    assert c["state"] == "replica" and c["lacks_segments"] > 0 and c["lacks_bytes"] > 0
    assert (1 << 18) < c["resilver_rate"] < (8 << 20)
    assert c["lacks_bytes"] // c["resilver_rate"] == c["resilver_eta_s"]
    volume = say(slow, "volume", "show")
    assert volume["state"] == "degraded" and volume["ejections"] == volume["recruits"] == 1
    assert "on fewer than 2 units" in slow.command("volume", "list").stdout

    # On a terminal bars, drawn over; elsewhere lines.
    screen, end = pty.openpty()
    watch = subprocess.Popen([PROGRAM, "-c", str(slow.config), "unit", "list", "--watch"], stdin=subprocess.DEVNULL,
                             stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    drawn = []

    def read():
        try:
            while piece := os.read(screen, 65536):
                drawn.append(piece.decode())
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    plain = slow.command("unit", "list", "--watch", timeout=100).stdout
    assert watch.wait(timeout=60) == 0
    reader.join()
    os.close(screen)
    lines = plain.splitlines()
    assert len(lines) >= 2 and lines[-1] == "c: whole" and "\033" not in plain
    assert all(re.match(r"c: +\d+ %, .* to bring, ", line) for line in lines[:-1])
    text = "".join(drawn)
    assert re.search(r"c +\[#*\.+\] +\d+ %", text) and "\033[1A" in text and "c: whole" in text
    assert slow.command("unit", "list", "--watch").stdout == "no unit lacks anything\n"
    c = say(slow, "unit", "show", "c")
    assert c["lsn_first"] == 1 and "lacks_bytes" not in c and c["resilvered_bytes"] > 1 << 20
    assert say(slow, "volume", "show")["state"] == "healthy"


def test_scrub_is_seen(new_platform):
    """Its age shows, it is told of when overdue, and one unit can be scrubbed alone."""
    platform = new_platform(start=False)
    platform.configure(scrub_max_age="1d")
    state = platform.folder / "state" / "scrub-main"
    text = state.read_text()
    days_ago = int((time.time() - 3 * 86400) * 1e9)
    state.write_text(re.sub(r"since \d+", f"since {days_ago}", text))
    platform.start()
    scrub = say(platform, "volume", "show")["scrub"]
    assert scrub["overdue"] and scrub["finished"] == 0 and scrub["age_s"] // 86400 == 3 and scrub["max_age_s"] == 86400
    assert "the scrub is overdue: its last is 3 days old, and scrub_max_age is 1 days" in platform.command("volume", "list").stdout
    until(lambda: "event=scrub.overdue volume=main" in platform.log_text())
    assert "overdue     for 2 days" in platform.command("scrub").stdout
    platform.command("scrub", "--now", "--unit", "a")
    assert say(platform, "unit", "show", "a")["scrubbed"] and not say(platform, "unit", "show", "b")["scrubbed"]
    assert say(platform, "volume", "show")["scrub"]["overdue"]
    platform.command("scrub", "--now")
    assert say(platform, "unit", "show", "b")["scrubbed"]
    assert not say(platform, "volume", "show")["scrub"]["overdue"]
    assert platform.log_text().count("event=scrub.overdue") == 1
    assert platform.command("scrub", "--unit", "a", check=False).returncode == 2
    result = platform.command("scrub", "--now", "--unit", "c", check=False)
    assert result.returncode == 1 and "no replica" in result.stderr
