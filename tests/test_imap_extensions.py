"""IMAP's extensions about messages, as a client sees them."""
import datetime
import imaplib
import re
import subprocess
import uuid

import pytest
from platform_under_test import PROGRAM, Platform, message, ok, uids


@pytest.fixture
def imap(shared_platform):
    connection = shared_platform.imap("user@example.org")
    yield connection
    try:
        connection.logout()
    except (imaplib.IMAP4.error, OSError):
        pass


@pytest.fixture
def box(imap):
    name = "box-" + uuid.uuid4().hex[:8]
    ok(imap.create(name))
    ok(imap.select(name))
    return name


def one(imap, uid, item):
    """What FETCH says of one item, as text."""
    [line] = ok(imap.uid("FETCH", str(uid), f"({item})"))
    return re.search(rf"{re.escape(item)} (\([^)]*\)|\"[^\"]*\"|NIL|\d+)", line.decode()).group(1)


def test_mailboxid(imap, box):
    """RFC 8474, 4: the same for CREATE, SELECT and STATUS, and after RENAME."""
    name = "id-" + uuid.uuid4().hex[:8]
    kind, answer = imap.create(name)
    created = re.search(rb"\[MAILBOXID \((F[0-9a-f]{32})\)\]", answer[0]).group(1).decode()
    assert created in ok(imap.status(name, "(MAILBOXID)"))[0].decode()
    ok(imap.rename(name, name + "x"))
    assert created in ok(imap.status(name + "x", "(MAILBOXID)"))[0].decode()
    ok(imap.select(name + "x"))
    assert imap.response("MAILBOXID")[1][0].decode() == f"({created})"
    ok(imap.create(name))
    assert created not in ok(imap.status(name, "(MAILBOXID)"))[0].decode()


def test_emailid_threadid_savedate(imap, box):
    """RFC 8474, 5 and 6; RFC 8514."""
    root = message("root", extra="Message-ID: <root@example.org>\n")
    reply = message("re", extra="Message-ID: <re@example.org>\nReferences: <root@example.org> <mid@example.org>\n")
    alone = message("alone")
    for data in (root, reply, alone):
        ok(imap.append(box, "", '" 7-Feb-2020 21:52:25 -0800"', data))
    ok(imap.uid("COPY", "1", box))
    assert uids(imap) == [1, 2, 3, 4]
    emails = [one(imap, uid, "EMAILID") for uid in (1, 2, 3, 4)]
    assert emails[0] == emails[3] and len(set(emails)) == 3
    assert all(re.fullmatch(r"\(M[0-9a-f]{32}\)", email) for email in emails)
    threads = [one(imap, uid, "THREADID") for uid in (1, 2, 3, 4)]
    assert threads[0] == threads[1] == threads[3] != "NIL" and threads[2] == "NIL"
    assert ok(imap.uid("SEARCH", "EMAILID", emails[0].strip("()")))[0] == b"1 4"
    assert ok(imap.uid("SEARCH", "THREADID", threads[0].strip("()")))[0] == b"1 2 4"
    assert ok(imap.uid("SEARCH", "THREADID", "Tnone"))[0] == b""

    saved = datetime.datetime.strptime(one(imap, 1, "SAVEDATE").strip('" '), "%d-%b-%Y %H:%M:%S %z")
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs((now - saved).total_seconds()) < 120
    day = saved.strftime("%d-%b-%Y")
    tomorrow = (saved + datetime.timedelta(days=2)).strftime("%d-%b-%Y")
    assert b"1" in ok(imap.uid("SEARCH", "SAVEDON", day))[0].split()
    assert ok(imap.uid("SEARCH", "SAVEDBEFORE", tomorrow))[0] == b"1 2 3 4"
    assert ok(imap.uid("SEARCH", "SAVEDSINCE", tomorrow))[0] == b""
    assert ok(imap.uid("SEARCH", "SAVEDBEFORE", day, "SAVEDATESUPPORTED"))[0] == b""


def test_ids_survive_recovery(new_platform, tmp_path):
    """RFC 8474, 4 and 5: "MUST NOT change", also when all that is left is a raw copy of a unit."""
    platform = new_platform()
    with platform.imap("user@example.org") as imap:
        ok(imap.append("INBOX", "", None, message("kept", extra="Message-ID: <kept@example.org>\n")))
        before = [one(imap, 1, item) for item in ("EMAILID", "THREADID", "SAVEDATE")]
        mailbox = ok(imap.status("INBOX", "(MAILBOXID)"))
    platform.stop()
    rescue = tmp_path / "rescue"
    subprocess.run([PROGRAM, "recover", "scan", "--out", rescue, platform.folder / "a"], check=True, capture_output=True)
    subprocess.run([PROGRAM, "recover", "rebuild", rescue], check=True, capture_output=True)
    config = rescue / "sternpost.conf"
    config.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", config.read_text()))
    rescued = Platform(rescue).start()
    try:
        with rescued.imap("user@example.org") as imap:
            assert [one(imap, 1, item) for item in ("EMAILID", "THREADID", "SAVEDATE")] == before
            assert ok(imap.status("INBOX", "(MAILBOXID)")) == mailbox
    finally:
        rescued.stop()
