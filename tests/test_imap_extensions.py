"""IMAP's extensions about messages, as a client sees them."""
import base64
import datetime
import imaplib
import quopri
import random
import re
import subprocess
import uuid

import pytest
from platform_under_test import PASSWORD, PROGRAM, Platform, message, ok, uids


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


def literal8(imap, box, data):
    """APPEND with a literal8 (RFC 3516, 4.4), which imaplib does not know."""
    tag = imap._new_tag()
    imap.send(b"%s APPEND %s ~{%d+}\r\n%s\r\n" % (tag, box.encode(), len(data), data))
    imap.tagged_commands[tag] = None
    return imap._command_complete("APPEND", tag)


def binary(imap, uid, item):
    """The literal, or literal8, that answers UID FETCH of one item; and the tagged answer's kind."""
    tag = imap._new_tag()
    imap.send(b"%s UID FETCH %d (%s)\r\n" % (tag, uid, item.encode()))
    line, found = imap.readline(), None
    while not line.startswith(tag):
        announced = re.search(rb"(~?)\{(\d+)\}\r\n$", line)
        if announced:
            found = (announced.group(1) == b"~", imap.read(int(announced.group(2))))
        line = imap.readline()
    return found, line.split()[1].decode()


def big_part(encoding, size, seed=7):
    """A message with one part of `size` bytes, and what is in it."""
    content = random.Random(seed).randbytes(size)
    if encoding == "quoted-printable":
        content = re.sub(rb"[\r\n\x00]", b" ", content) + b"."
        coded = quopri.encodestring(content).replace(b"\n", b"\r\n")
        content = quopri.decodestring(coded)
    else:
        coded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    head = (f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\n\r\n").encode()
    return head + coded + b"\r\n--b--\r\n", content


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_binary(imap, box, encoding):
    """RFC 3516, 4.2: long parts come decoded, exact to the byte, in a literal whose size is right."""
    data, content = big_part(encoding, 700_000)
    ok(imap.append(box, "", None, data))
    assert int(one(imap, 1, "BINARY.SIZE[2]")) == len(content)
    assert binary(imap, 1, "BINARY.PEEK[2]") == ((b"\0" in content, content), "OK")
    for offset, length in ((0, 10), (65536, 65536), (65535, 200_000), (len(content) - 5, 100)):
        (_, part), kind = binary(imap, 1, f"BINARY.PEEK[2]<{offset}.{length}>")
        assert (part, kind) == (content[offset:offset + length], "OK")
    assert b"Seen" not in ok(imap.fetch("1", "FLAGS"))[0]
    assert binary(imap, 1, "BINARY[1]") == ((False, b"text"), "OK")
    assert b"Seen" in ok(imap.fetch("1", "FLAGS"))[0]


def test_binary_outlives_an_expunge(shared_platform, imap, box):
    """A literal that was promised is sent to its end, also when another session expunges the message."""
    data, content = big_part("base64", 3_000_000)
    ok(imap.append(box, "", None, data))
    tag = imap._new_tag()
    imap.send(b"%s UID FETCH 1 BINARY.PEEK[2]\r\n" % tag)
    assert re.search(rb"~\{%d\}\r\n$" % len(content), imap.readline())
    with shared_platform.imap("user@example.org", select=box) as other:
        ok(other.store("1", "+FLAGS", r"(\Deleted)"))
        ok(other.expunge())
    assert imap.read(len(content)) == content
    assert imap.readline() == b")\r\n"
    assert imap.readline() == b"* 1 EXPUNGE\r\n"
    assert b"OK" in imap.readline()


def test_literal8(imap, box):
    """RFC 3516, 4.4: a message with NULs is stored as it is; BINARY shows it, BODY has 0x80 for them."""
    data = b"Content-Transfer-Encoding: binary\r\nContent-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) * 2000
    ok(literal8(imap, box, data))
    assert binary(imap, 1, "BINARY.PEEK[]") == ((True, data), "OK")
    assert binary(imap, 1, "BINARY.PEEK[1]") == ((True, data[data.index(b"\r\n\r\n") + 4:]), "OK")
    assert binary(imap, 1, "BODY.PEEK[]") == ((False, data.replace(b"\0", b"\x80")), "OK")


def test_unknown_encoding(imap, box):
    """RFC 3516, 4.3."""
    ok(imap.append(box, "", None, b"Content-Transfer-Encoding: x-unknown\r\n\r\nabc\r\n"))
    kind, answer = imap.uid("FETCH", "1", "(BINARY.PEEK[1])")
    assert kind == "NO" and answer[0].startswith(b"[UNKNOWN-CTE]")


def test_preview(imap, box):
    """RFC 8970: text of the first text part, charset and transfer encoding undone, HTML left out."""
    alternative = ("Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n \r\n"
                   "--b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                   "<style>x</style><p>Gr=FC=DFe <i>aus</i> K&ouml;ln</p>\r\n--b--\r\n").encode()
    for data in (message("plain", "Good  morning,\n\nall\n"), alternative, message("long", "word " * 100),
                 b"Content-Type: image/png\r\n\r\nxxx\r\n",
                 b"Content-Type: message/rfc822\r\n\r\n" + message("inside", "not shown")):
        ok(imap.append(box, "", None, data))
    assert one(imap, 1, "PREVIEW") == '"Good morning, all"'
    assert binary(imap, 2, "PREVIEW") == ((False, "Grüße aus Köln".encode()), "OK")
    assert one(imap, 3, "PREVIEW") == '"' + ("word " * 40).strip() + '"'
    assert one(imap, 4, "PREVIEW") == one(imap, 5, "PREVIEW") == '""'
    assert b'PREVIEW "Good' in ok(imap.fetch("1", "(PREVIEW (LAZY))"))[0]


def replace(imap, what, box, data):
    tag = imap._new_tag()
    imap.send(b"%s %s %s (\\Draft) {%d+}\r\n%s\r\n" % (tag, what.encode(), box.encode(), len(data), data))
    lines = [imap.readline()]
    while not lines[-1].startswith(tag):
        lines.append(imap.readline())
    return lines


def test_replace(shared_platform, imap, box):
    """RFC 8508, 3: the new message comes and the old one goes in one commit, also to another mailbox; or neither."""
    for i in range(3):
        ok(imap.append(box, "", None, message(f"draft {i}")))
    lines = replace(imap, "REPLACE 2", box, message("draft 1, second try"))
    assert b"[APPENDUID" in lines[0] and b" 4] " in lines[0] and b"* 2 EXPUNGE\r\n" in lines and b" OK " in lines[-1]
    assert uids(imap) == [1, 3, 4]
    assert b"NO [NONEXISTENT]" in replace(imap, "UID REPLACE 2", box, message("again"))[-1]
    ok(imap.create(box + "-sent"))
    assert b" OK " in replace(imap, "UID REPLACE 4", box + "-sent", message("sent"))[-1]
    assert uids(imap) == [1, 3] and b"MESSAGES 1" in ok(imap.status(box + "-sent", "(MESSAGES)"))[0]
    with shared_platform.imap("user@example.org", select=box) as other:
        ok(other.store("1", "+FLAGS", r"(\Deleted)"))
        ok(other.expunge())
    assert b"NO [" in replace(imap, "UID REPLACE 1", box, message("too late"))[-1]
    assert uids(imap) == [3]
    assert b"NO [TRYCREATE]" in replace(imap, "UID REPLACE 3", "nowhere", message("lost"))[-1]
    assert uids(imap) == [3]


def test_unauthenticate(shared_platform, box):
    """RFC 8437: the same connection goes on for another login; of the one before nothing is left."""
    connection = shared_platform.imap("user@example.org", select=box)
    ok(connection.xatom("UNAUTHENTICATE"))
    for command in (("SELECT", box), ("FETCH", "1", "FLAGS"), ("UNAUTHENTICATE",)):
        with pytest.raises(imaplib.IMAP4.error, match="Log in first"):
            connection.xatom(*command)
    connection.state = "NONAUTH"
    with pytest.raises(imaplib.IMAP4.error):
        connection.login("user@example.org", "wrong")
    ok(connection.login("user@example.org", PASSWORD))
    connection.state = "SELECTED"  # or imaplib would not even ask
    with pytest.raises(imaplib.IMAP4.error, match="Select a mailbox first"):
        connection.xatom("FETCH", "1", "FLAGS")
    ok(connection.select(box))
    connection.logout()
