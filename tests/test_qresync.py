"""QRESYNC (RFC 7162, 3.2): a client that was away is told what went, exactly, whatever happened to the server meanwhile."""
import re
import time

import pytest
from platform_under_test import message, ok

USER = "user@example.org"


@pytest.fixture
def small(new_platform):
    """A platform with small segments and no hold, so that compaction drops what is expunged."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", hold="0", compact_rate="0", scrub_rate="0")
    return platform.start()


def command(imap, text):
    """The untagged lines of the answer, which must be OK, and the tagged one."""
    tag = imap._new_tag().decode()
    imap.send(f"{tag} {text}\r\n".encode())
    lines = []
    while True:
        line = imap.readline().rstrip(b"\r\n").decode()
        if line.startswith(tag + " "):
            assert line.startswith(tag + " OK"), line
            return lines, line
        lines.append(line)


def resync(platform, parameter, enable="ENABLE QRESYNC"):
    imap = platform.imap(USER, select=None)
    command(imap, enable)
    lines, _ = command(imap, f"SELECT INBOX (QRESYNC ({parameter}))")
    imap.logout()
    vanished = [line for line in lines if "VANISHED" in line]
    changed = [re.search(r"UID (\d+)", line).group(1) for line in lines if " FETCH (" in line]
    return vanished, changed


def state(imap):
    text = ok(imap.status("INBOX", "(UIDVALIDITY HIGHESTMODSEQ)"))[0].decode()
    return [re.search(rf"{name} (\d+)", text).group(1) for name in ("UIDVALIDITY", "HIGHESTMODSEQ")]


def test_exact_after_crash_rebuild_and_compaction(small):
    imap = small.imap(USER)
    for number in range(60):
        ok(imap.append("INBOX", None, None, message(body=f"{number}" * 60000)))
    validity, first = state(imap)
    for uids in ("3:40", "50,52"):
        ok(imap.uid("STORE", uids, "+FLAGS.SILENT", r"(\Deleted)"))
        ok(imap.expunge())
        if uids == "3:40":
            _, second = state(imap)
    ok(imap.uid("STORE", "41", "+FLAGS.SILENT", r"(\Flagged)"))
    _, third = state(imap)

    def check():
        assert resync(small, f"{validity} {first}") == (["* VANISHED (EARLIER) 3:40,50,52"], ["41"])
        assert resync(small, f"{validity} {second}") == (["* VANISHED (EARLIER) 50,52"], ["41"])
        assert resync(small, f"{validity} {third}") == ([], [])
        assert resync(small, f"{validity} {first} 1:10,41:60") == (["* VANISHED (EARLIER) 3:10,50,52"], ["41"])
        assert resync(small, f"{int(validity) + 1} {first}") == ([], [])

    check()
    small.kill()
    small.start()
    check()
    small.command("compact", "--now")
    check()
    small.stop()
    small.command("index", "rebuild")
    small.start()
    check()


def test_two_sessions(shared_platform):
    one, two = (shared_platform.imap(USER, select=None) for _ in range(2))
    for imap in (one, two):
        lines, _ = command(imap, "ENABLE QRESYNC")
        assert lines == ["* ENABLED QRESYNC"]
    for _ in range(5):
        ok(one.append("INBOX", None, None, message()))
    for imap in (one, two):
        command(imap, "SELECT INBOX")
    command(one, r"UID STORE 2:3 +FLAGS.SILENT (\Deleted)")
    lines, tagged = command(one, "EXPUNGE")
    assert lines == ["* VANISHED 2:3"]
    told = re.search(r"\[HIGHESTMODSEQ (\d+)\]", tagged).group(1)
    assert told == state(one)[1]
    deadline = time.monotonic() + 30
    while "* VANISHED 2:3" not in (lines := command(two, "NOOP")[0]):
        assert not any("VANISHED" in line for line in lines) and time.monotonic() < deadline
    lines, _ = command(two, "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")
    assert lines[0] == "* VANISHED (EARLIER) 2:3"
    assert len(lines) == 4
    for imap in (one, two):
        imap.logout()
