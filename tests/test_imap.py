"""IMAP as a client sees it."""
import imaplib
import re
import socket
import threading
import time

import pytest
from platform_under_test import PASSWORD, fetch_all, message, ok, uids


def append(imap, box, count=1, flags="", start=0):
    """Appends messages `subject N`; their UIDs."""
    for i in range(start, start + count):
        ok(imap.append(box, flags, None, message(f"subject {i}", f"body {i}\n")))
    return uids(imap)


def test_login_and_capability(shared_platform):
    with imaplib.IMAP4("127.0.0.1", shared_platform.ports["imap"]) as connection:
        assert "IMAP4REV1" in connection.capabilities
        with pytest.raises(imaplib.IMAP4.error):
            connection.login("user@example.org", "wrong")
        with pytest.raises(imaplib.IMAP4.error):
            connection.login("nobody@example.org", PASSWORD)
        ok(connection.login("user@example.org", PASSWORD))
        ok(connection.capability())
        words = ok(connection.capability())[0].decode().upper().split()
        for word in ("IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "CONDSTORE", "ESEARCH", "SPECIAL-USE", "SORT", "ID"):
            assert word in words, words


def test_authenticate_plain(shared_platform):
    with imaplib.IMAP4("127.0.0.1", shared_platform.ports["imap"]) as connection:
        ok(connection.authenticate("PLAIN", lambda _: f"\0user@example.org\0{PASSWORD}".encode()))


def test_first_mailboxes(imap):
    lines = [line.decode() for line in ok(imap.list())]
    for name, use in (("INBOX", ""), ("Drafts", r"\Drafts"), ("Sent", r"\Sent"), ("Trash", r"\Trash"),
                      ("Junk", r"\Junk"), ("Archive", r"\Archive")):
        [line] = [line for line in lines if re.search(rf'"/" "?{name}"?$', line)]
        assert use in line


def test_append_and_fetch(imap, box):
    data = message("append", "Grüße\n")
    kind, answer = imap.append(box, r"(\Seen $Label1)", '" 7-Feb-2020 21:52:25 -0800"', data)
    assert kind == "OK" and re.search(rb"\[APPENDUID \d+ 1\]", answer[0])
    [uid] = uids(imap)
    [(line, body), _] = ok(imap.uid("FETCH", str(uid), "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    assert body == data
    assert rb"\Seen" in line and b"$Label1" in line
    assert b'INTERNALDATE " 7-Feb-2020 21:52:25 -0800"' in line and b"RFC822.SIZE %d " % len(data) in line


def test_envelope_and_structure(imap, box):
    append(imap, box)
    [line] = ok(imap.fetch("1", "(ENVELOPE BODYSTRUCTURE)"))
    assert b'"subject 0"' in line and b'(NIL NIL "a" "example.net")' in line
    assert re.search(rb'BODYSTRUCTURE \("text" "plain"', line, re.IGNORECASE)


def test_partial_and_sections(imap, box):
    append(imap, box)
    assert ok(imap.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))[0][1] == b"Subject: subject 0\r\n\r\n"
    assert ok(imap.fetch("1", "(BODY.PEEK[TEXT])"))[0][1] == b"body 0\r\n"
    assert ok(imap.fetch("1", "(BODY.PEEK[TEXT]<2.3>)"))[0][1] == b"dy "
    assert b"FLAGS" in ok(imap.fetch("1", "(FLAGS)"))[0]
    ok(imap.fetch("1", "(BODY[TEXT])"))
    assert rb"\Seen" in ok(imap.fetch("1", "(FLAGS)"))[0]


def test_store_and_keywords(imap, box):
    append(imap, box, 3)
    assert rb"\Flagged" in ok(imap.store("1", "+FLAGS", r"(\Flagged todo)"))[0]
    assert b"todo" in ok(imap.fetch("1", "(FLAGS)"))[0]
    ok(imap.store("1", "-FLAGS", r"(\Flagged)"))
    assert rb"\Flagged" not in ok(imap.fetch("1", "(FLAGS)"))[0]
    ok(imap.store("1:3", "FLAGS.SILENT", r"(\Answered)"))
    assert ok(imap.search(None, "ANSWERED"))[0] == b"1 2 3"
    assert ok(imap.search(None, "KEYWORD", "todo"))[0] == b""


def test_expunge_and_uids(imap, box):
    first = append(imap, box, 5)
    ok(imap.store("2,4", "+FLAGS.SILENT", r"(\Deleted)"))
    assert ok(imap.expunge()) == [b"2", b"3"]
    assert uids(imap) == [first[0], first[2], first[4]]
    ok(imap.store("1:*", "+FLAGS.SILENT", r"(\Deleted)"))
    ok(imap.uid("EXPUNGE", str(first[2])))
    assert uids(imap) == [first[0], first[4]]
    ok(imap.expunge())
    assert append(imap, box)[0] > first[4]


def test_copy_and_move(imap, box):
    append(imap, box, 4)
    other = box + "/below"
    ok(imap.create(other))
    kind, answer = imap.copy("1:2", other)
    assert kind == "OK" and re.search(rb"\[COPYUID \d+ 1:2 1:2\]", answer[0])
    ok(imap.uid("MOVE", "3", other))
    assert uids(imap) == [1, 2, 4]
    ok(imap.select(other))
    assert [body for _, body in sorted(fetch_all(imap).items())] == [
        message(f"subject {i}", f"body {i}\n") for i in range(3)]
    kind, answer = imap.copy("1", "nowhere")
    assert kind == "NO" and b"[TRYCREATE]" in answer[0]


def test_rename_keeps_uids(imap, box):
    append(imap, box, 3)
    validity = ok(imap.status(box, "(UIDVALIDITY UIDNEXT MESSAGES)"))[0]
    ok(imap.close())
    ok(imap.rename(box, box + "-new"))
    after = ok(imap.status(box + "-new", "(UIDVALIDITY UIDNEXT MESSAGES)"))[0]
    assert re.search(rb"\(.*\)", validity).group(0) == re.search(rb"\(.*\)", after).group(0)
    ok(imap.delete(box + "-new"))
    assert imap.select(box + "-new")[0] == "NO"


def test_a_new_mailbox_has_a_new_uidvalidity(imap, box):
    def validity():
        return int(re.search(rb"UIDVALIDITY (\d+)", ok(imap.status(box, "(UIDVALIDITY)"))[0]).group(1))
    before = validity()
    ok(imap.close())
    ok(imap.delete(box))
    ok(imap.create(box))
    assert validity() > before


def test_subscriptions(imap, box):
    ok(imap.subscribe(box))
    assert any(box.encode() in line for line in ok(imap.lsub()))
    ok(imap.unsubscribe(box))
    assert not any(line and box.encode() in line for line in ok(imap.lsub()))


def test_search(imap, box):
    append(imap, box, 3)
    ok(imap.append(box, None, '"01-Jan-2001 00:00:00 +0000"', message("Besuch in Köln", "über\n")))
    assert ok(imap.search(None, "SUBJECT", '"subject 1"'))[0] == b"2"
    assert ok(imap.search(None, "BODY", '"body 2"'))[0] == b"3"
    assert ok(imap.search(None, "BEFORE", "02-Jan-2001"))[0] == b"4"
    assert ok(imap.search(None, "OR", "SUBJECT", "Besuch", "NOT", "FROM", "example.net"))[0] == b"4"
    assert ok(imap.search(None, "LARGER", "100000"))[0] == b""
    imap.literal = "ÜBER".encode()
    assert ok(imap.search("UTF-8", "BODY"))[0] == b"4"


def test_sort(imap, box):
    for subject in ("b", "Re: a", "c"):
        ok(imap.append(box, None, None, message(subject)))
    assert ok(imap.sort("SUBJECT", "UTF-8", "ALL"))[0] == b"2 1 3"
    assert ok(imap.sort("REVERSE SUBJECT", "UTF-8", "ALL"))[0] == b"3 1 2"


def test_condstore(imap, box):
    append(imap, box, 2)
    modseq = int(re.search(rb"HIGHESTMODSEQ (\d+)", ok(imap.status(box, "(HIGHESTMODSEQ)"))[0]).group(1))
    ok(imap.store("1", "+FLAGS", r"(\Seen)"))
    [line] = ok(imap.fetch("1:*", f"(FLAGS) (CHANGEDSINCE {modseq})"))
    assert line.startswith(b"1 ")
    kind, answer = imap.store("1:2", f"(UNCHANGEDSINCE {modseq}) +FLAGS", r"(\Flagged)")
    assert kind == "OK"
    assert ok(imap.search(None, "FLAGGED"))[0] == b"2"


def test_status_counts(imap, box):
    append(imap, box, 3)
    ok(imap.store("1", "+FLAGS", r"(\Seen)"))
    [line] = ok(imap.status(box, "(MESSAGES UNSEEN UIDNEXT)"))
    assert b"MESSAGES 3" in line and b"UNSEEN 2" in line and b"UIDNEXT 4" in line


def test_two_sessions_see_each_other(shared_platform, imap, box):
    other = shared_platform.imap("user@example.org", select=box)
    append(imap, box, 2)
    ok(other.noop())
    assert int(other.response("EXISTS")[1][-1]) == 2
    ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    ok(other.noop())
    assert uids(other) == [2]
    other.logout()


def test_expunge_during_a_literal(shared_platform, imap, box):
    """A message is expunged while another session is being sent it: that one gets all of it, and is told then."""
    data = message("long", "".join(f"{n:075}\n" for n in range(160_000)))
    ok(imap.append(box, None, None, data))
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect(("127.0.0.1", shared_platform.ports["imap"]))
        slow.settimeout(60)
        slow.sendall(f'a LOGIN user@example.org "{PASSWORD}"\r\nb SELECT {box}\r\nc FETCH 1 BODY.PEEK[]\r\n'.encode())
        got = b""
        while b"BODY[] {" not in got:
            got += slow.recv(4096)
        ok(imap.noop())
        ok(imap.store("1", "+FLAGS.SILENT", r"(\Deleted)"))
        ok(imap.expunge())
        slow.sendall(b"d NOOP\r\n")
        pieces = [got]
        while not re.search(rb"(?m)^d OK .*\r\n\Z", b"".join(pieces[-2:])[-200:]):
            pieces.append(slow.recv(1 << 20))
            assert pieces[-1], b"".join(pieces)[-200:]
    got = b"".join(pieces)
    start = re.search(rb"BODY\[\] \{(\d+)\}\r\n", got)
    assert int(start.group(1)) == len(data) and got[start.end():start.end() + len(data)] == data
    assert b"* 1 EXPUNGE\r\n" in got[start.end() + len(data):]


def test_idle_tells_of_new_mail(shared_platform, imap, box):
    with socket.create_connection(("127.0.0.1", shared_platform.ports["imap"]), timeout=30) as s:
        reader = s.makefile("rb")

        def command(tag, text):
            s.sendall(f"{tag} {text}\r\n".encode())
            while not (line := reader.readline()).startswith(tag.encode() + b" "):
                assert line
            assert line.split()[1] == b"OK", line

        reader.readline()
        command("a", f'LOGIN user@example.org "{PASSWORD}"')
        command("b", f"SELECT {box}")
        s.sendall(b"c IDLE\r\n")
        assert reader.readline().startswith(b"+")
        begin = time.monotonic()
        append(imap, box)
        assert reader.readline() == b"* 1 EXISTS\r\n"
        assert time.monotonic() - begin < 5
        s.sendall(b"DONE\r\n")
        while not (line := reader.readline()).startswith(b"c "):
            assert line.startswith(b"* "), line
        assert line.startswith(b"c OK")


def test_literal_plus_and_pipelining(shared_platform, box):
    user = b"user@example.org"
    with socket.create_connection(("127.0.0.1", shared_platform.ports["imap"]), timeout=30) as s:
        data = message("pipelined")
        s.sendall(b"a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\nb APPEND %s {%d+}\r\n%s\r\nc SELECT %s\r\nd FETCH 1 BODY.PEEK[]\r\n"
                  b"e LOGOUT\r\n" % (len(user), user, len(PASSWORD), PASSWORD.encode(), box.encode(), len(data), data,
                                    box.encode()))
        answers = b""
        while piece := s.recv(65536):
            answers += piece
    for tag in (b"a", b"b", b"c", b"d", b"e"):
        assert re.search(rb"(?m)^%s OK " % tag, answers), answers
    assert data in answers


@pytest.mark.parametrize("line", [b"", b"x", b"a", b"a FETCH", b"a LOGIN x", b"* OK", b"a LIST (", b"a LOGIN {99999999}",
                                  b"\xff\xfe\x00", b"a" * 20000])
def test_nonsense_is_answered_with_bad(shared_platform, line):
    with socket.create_connection(("127.0.0.1", shared_platform.ports["imap"]), timeout=30) as s:
        reader = s.makefile("rb")
        assert reader.readline().startswith(b"* OK")
        s.sendall(line + b"\r\nz NOOP\r\n")
        answer = reader.readline()
        assert b" BAD" in answer or b"BYE" in answer or b" NO" in answer, answer


def test_other_accounts_mail_is_not_there(shared_platform, imap, box):
    append(imap, box)
    other = shared_platform.imap("other@example.org")
    assert other.select(box)[0] == "NO"
    assert not any(box.encode() in line for line in ok(other.list()))
    other.logout()


def test_a_stop_answers_what_it_has_stored(platform):
    """A client that is not told that its APPEND succeeded would upload the message again."""
    acknowledged = []

    def upload(number):
        with platform.imap("user@example.org", select=None) as connection:
            try:
                for i in range(100000):
                    subject = f"{number}-{i}"
                    ok(connection.append("INBOX", None, None, message(subject)))
                    acknowledged.append(subject)
            except (imaplib.IMAP4.abort, imaplib.IMAP4.error, OSError):
                pass

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 48 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert platform.stop() == 0
    for thread in threads:
        thread.join()
    platform.start()
    imap = platform.imap("user@example.org")
    stored = [re.search(rb"Subject: (\S+)", header).group(1).decode()
              for header in fetch_all(imap, "(UID BODY.PEEK[HEADER])").values()]
    imap.logout()
    assert len(acknowledged) >= 48
    assert sorted(stored) == sorted(acknowledged)
