"""Mail from elsewhere: `sternpost import` with everything that a Maildir or an mbox says, once and only once."""
import collections
import imaplib
import itertools
import json
import os
import re
import subprocess
import time

import pytest
from platform_under_test import PROGRAM, CommandFailed, Platform, ok

DATE = 1_000_000_000  # 2001-09-09 01:46:40 UTC
FROM_LINE = b"From sender@example.net Sun Sep  9 01:46:40 2001\n"


class Place(collections.namedtuple("Place", "platform address")):
    """Whose mailboxes a test imports into."""

    def imap(self, **options):
        return self.platform.imap(self.address, **options)


Stored = collections.namedtuple("Stored", "data flags date")


def encoded(name):
    """A mailbox name in modified UTF-7 (RFC 3501, 5.1.3), for names in which only whole words need it."""
    def shift(found):
        return "&" + found.group(0).encode("utf-7")[1:].decode().rstrip("-").replace("/", ",") + "-"
    return re.sub("[^ -~]+", shift, name.replace("&", "&-"))


def mailbox(place, name):
    """{uid: Stored} of a mailbox."""
    imap = place.imap(select=f'"{encoded(name)}"')
    found = {}
    for part in ok(imap.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")):
        if isinstance(part, tuple):
            line, data = part
            flags = set(re.search(rb"FLAGS \(([^)]*)\)", line).group(1).decode().split()) - {r"\Recent"}
            date = time.mktime(imaplib.Internaldate2tuple(line))
            found[int(re.search(rb"UID (\d+)", line).group(1))] = Stored(data, flags, int(date))
    imap.logout()
    return found


def in_order(place, name="INBOX"):
    return [stored for _, stored in sorted(mailbox(place, name).items())]


def mailboxes(place):
    imap = place.imap(select=None)
    names = {re.search(rb'"/" "?([^"]*)"?$', line).group(1).decode() for line in ok(imap.list())}
    imap.logout()
    return names


def run_import(place, kind, path, *options, check=True):
    """The result, with the facts that --json prints."""
    result = place.platform.command("--json", "import", kind, path, "--account", place.address, *options, check=check)
    result.facts = json.loads(result.stdout) if result.stdout else None
    return result


def mail(number, body="body\n"):
    """With LF, as it lies in a file."""
    return (f"From: Sender <sender@example.net>\nTo: user@example.org\nSubject: number {number}\n"
            f"Message-ID: <{number}@example.net>\n\n{body}").encode()


def crlf(data):
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def put(folder, name, data, date=DATE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    os.utime(folder / name, (date, date))


@pytest.fixture(scope="module")
def platforms(tmp_path_factory):
    """One with a server, through which commands go; one without, on whose volume they work themselves."""
    made = {name: Platform(tmp_path_factory.mktemp(name) / "platform").init() for name in ("running", "stopped")}
    for platform in made.values():
        text = platform.config.read_text()
        platform.config.write_text(text.replace("# [limits]\n# message_bytes_max = 100M",
                                                "[limits]\nmessage_bytes_max = 1M"))
        assert platform.config.read_text() != text
    made["running"].start()
    yield made
    assert made["running"].stop() == 0


numbers = itertools.count(1)


def new_place(platform):
    return Place(platform, platform.add_account(f"user{next(numbers)}@example.org"))


@pytest.fixture
def live(platforms):
    """An account of its own, with a server."""
    return new_place(platforms["running"])


@pytest.fixture(params=["running", "stopped"])
def place(request, platforms):
    """An account of its own, with and without a server."""
    place = new_place(platforms[request.param])
    yield place
    if request.param == "stopped" and place.platform.process:
        assert place.platform.stop() == 0


def start(place):
    """For a look at what was imported."""
    if not place.platform.process:
        place.platform.start()


# ---- Maildir ----


def make_maildir(root):
    """{mailbox: [Stored, in the order of their UIDs]}"""
    (root / "tmp").mkdir(parents=True)
    put(root / "tmp", "999.unfinished", mail("unfinished"))
    put(root / "cur", "1000.a.host:2,", mail(0), DATE)
    put(root / "cur", "1001.b.host,S=5:2,S", mail(1), DATE + 1)
    put(root / "cur", "1002.c.host:2,DFPRST", mail(2), DATE + 86400)
    put(root / "cur", "1003.d.host:2,Sac", mail(3), DATE + 3)
    put(root / "cur", "1004.e.host", mail(4, "caf\u00e9\n"), DATE + 4)
    put(root / "new", "1005.f.host", mail(5, "no line end"), DATE + 5)
    put(root / "new", "1006.g.host", crlf(mail(6, "CRLF already\n")), DATE + 6)
    put(root / "cur", "1007.h.host:2,", mail(7, "lone \r stays\n"), 0)
    put(root, "dovecot-keywords", b"0 $Label1\n1 unused\n2 todo\n")
    for sub in ("cur", "new", "tmp"):
        (root / ".Nothing.Yet" / sub).mkdir(parents=True)
    put(root / ".Sent" / "cur", "1.x:2,S", mail("sent"))
    put(root / ".Sub.Folder" / "cur", "1.x:2,Sa", mail("below"))
    put(root / ".Sub.Folder", "dovecot-keywords", b"0 other\n")
    put(root / ".Entw&APw-rfe" / "new", "1.x", mail("umlaut"))
    put(root / "Plain" / "cur", "1.x:2,F", mail("plain"))
    put(root / "Plain" / "v1.0 &- more" / "new", "1.x", mail("nested"))
    put(root / ".gr\u00fcn" / "cur", "1.x:2,S", mail("UTF-8"))
    put(root / ".inbox.Below" / "cur", "1.x:2,S", mail("below INBOX"))
    put(root / "Years" / "2001" / "cur", "1.x:2,S", mail("deep"))

    def stored(number, flags="", date=DATE, body="body\n"):
        return Stored(crlf(mail(number, body)), set(flags.split()), date)
    return {
        "INBOX": [stored(0), stored(1, r"\Seen", DATE + 1),
                  stored(2, r"\Seen \Answered \Flagged \Draft \Deleted $Forwarded", DATE + 86400),
                  stored(3, r"\Seen $Label1 todo", DATE + 3), stored(4, "", DATE + 4, "caf\u00e9\n"),
                  stored(5, "", DATE + 5, "no line end"), stored(6, "", DATE + 6, "CRLF already\n"),
                  stored(7, "", 0, "lone \r stays\n")],
        "Sent": [stored("sent", r"\Seen")],
        "Sub/Folder": [stored("below", r"\Seen other")],
        "Entw\u00fcrfe": [stored("umlaut")],
        "Plain": [stored("plain", r"\Flagged")],
        "Plain/v1.0 & more": [stored("nested")],
        "gr\u00fcn": [stored("UTF-8", r"\Seen")],
        "INBOX/Below": [stored("below INBOX", r"\Seen")],
        "Years/2001": [stored("deep", r"\Seen")],
        "Nothing/Yet": [],
    }


def test_maildir(place, tmp_path):
    expected = make_maildir(tmp_path / "Maildir")
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "Maildir").rglob("*"))
    facts = run_import(place, "maildir", tmp_path / "Maildir").facts
    assert (facts["imported"], facts["left_out"], facts["already_there"]) == (sum(map(len, expected.values())), 0, 0)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "Maildir").rglob("*")) == before
    start(place)
    for name, messages in expected.items():
        assert in_order(place, name) == messages, name
    assert {encoded(name) for name in expected} <= mailboxes(place)


def test_maildir_into_another_mailbox(live, tmp_path):
    make_maildir(tmp_path / "Maildir")
    run_import(live, "maildir", tmp_path / "Maildir", "--mailbox", "Old/Inbox")
    assert len(mailbox(live, "Old/Inbox")) == 8 and len(mailbox(live, "INBOX")) == 0
    assert len(mailbox(live, "Sent")) == 1


@pytest.mark.parametrize("name", ["inbox", "Inbox"])
def test_inbox_is_one_mailbox_however_it_is_written(live, tmp_path, name):
    put(tmp_path / "Maildir" / "cur", "1:2,", mail(1))
    put(tmp_path / "Maildir" / f".{name}" / "cur", "1:2,", mail(2))
    run_import(live, "maildir", tmp_path / "Maildir")
    put(tmp_path / "Maildir" / "cur", "2:2,", mail(3))
    run_import(live, "maildir", tmp_path / "Maildir", "--mailbox", name)
    assert [stored.data for stored in in_order(live)] == [crlf(mail(i)) for i in (1, 2, 3)]
    assert {box for box in mailboxes(live) if box.upper() == "INBOX"} == {"INBOX"}


def test_imported_mail_goes_on_like_any_other(live, tmp_path):
    """Flags change, UIDs grow, another client is told."""
    make_maildir(tmp_path / "Maildir")
    watcher = live.imap()
    run_import(live, "maildir", tmp_path / "Maildir")
    ok(watcher.noop())
    assert int(watcher.response("EXISTS")[1][-1]) == 8
    ok(watcher.store("1", "+FLAGS", r"(\Flagged)"))
    ok(watcher.append("INBOX", None, None, crlf(mail("later"))))
    assert ok(watcher.uid("SEARCH", "SUBJECT", "later"))[0] == b"9"
    assert ok(watcher.search(None, "KEYWORD", "todo"))[0] == b"4"
    assert ok(watcher.search(None, "SENTSINCE", "1-Jan-2000"))[0] == b""
    assert ok(watcher.search(None, "ON", "10-Sep-2001"))[0] == b"3"
    watcher.logout()


# ---- mbox ----

MBOXES = {
    # name: (file, [(message, flags)])
    "plain": (FROM_LINE + mail(1) + b"\n" + FROM_LINE + mail(2), [(mail(1), ""), (mail(2), "")]),
    "no line end at the end": (FROM_LINE + mail(1, "x"), [(mail(1, "x"), "")]),
    "quoted": (FROM_LINE + mail(1, ">From a\n>>From b\n>from c\n> From d\n>Fromage\n>>>From e\n"),
               [(mail(1, "From a\n>From b\n>from c\n> From d\n>Fromage\n>>From e\n"), "")]),
    # What does not look like a separator, or does not follow an empty line, is text.
    "From inside": (FROM_LINE + mail(1, "x\n\nFrom here on\n\nFrom: me\nFrom sender@example.net Sun Sep  9 01:46:40 2001\n"
                                        "From\n\nFrom \n"),
                    [(mail(1, "x\n\nFrom here on\n\nFrom: me\nFrom sender@example.net Sun Sep  9 01:46:40 2001\nFrom\n\n"
                              "From \n"), "")]),
    "empty lines": (FROM_LINE + mail(1, "\n\nx\n\n\n") + b"\n" + FROM_LINE + mail(2, "") + b"\n",
                    [(mail(1, "\n\nx\n\n\n"), ""), (mail(2, ""), "")]),
    "blanks in empty lines": (FROM_LINE + mail(1, "x\n \n\t\n \ny\n \n") + b"\n" + FROM_LINE + mail(2),
                              [(mail(1, "x\n \n\t\n \ny\n \n"), ""), (mail(2), "")]),
    "folded with a blank line": (FROM_LINE + b"Subject: a\n \n b\nX: y\n\nx\n", [(b"Subject: a\n \n b\nX: y\n\nx\n", "")]),
    "CRLF": (crlf(FROM_LINE + mail(1, ">From a\n") + b"\n" + FROM_LINE + mail(2)),
             [(mail(1, "From a\n"), ""), (mail(2), "")]),
    "status": (FROM_LINE + b"Status: RO\nX-Status: AF\nX-Keywords: $Label1 todo\nX-UID: 7\n" + mail(1) + b"\n" + FROM_LINE +
               b"Status: O\nX-Status: DT\n" + mail(2, "Status: R\n"),
               [(mail(1), r"\Seen \Answered \Flagged $Label1 todo"), (mail(2, "Status: R\n"), r"\Deleted \Draft")]),
    "lengths lie": (FROM_LINE + b"Content-Length: 100000\n" + mail(1) + b"\n" + FROM_LINE + b"Lines: 0\n" + mail(2),
                    [(b"Content-Length: 100000\n" + mail(1), ""), (b"Lines: 0\n" + mail(2), "")]),
    "eight bit": (FROM_LINE + mail(1) + b"\xff\x80 caf\xc3\xa9\n" + b"y" * 300000 + b"\n",
                  [(mail(1) + b"\xff\x80 caf\xc3\xa9\n" + b"y" * 300000 + b"\n", "")]),
    "the same twice": ((FROM_LINE + mail(1) + b"\n") * 3, [(mail(1), "")] * 3),
}


@pytest.fixture(scope="module")
def mbox_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mbox")


@pytest.mark.parametrize("name", MBOXES)
def test_mbox(live, mbox_folder, name):
    content, messages = MBOXES[name]
    path, box = mbox_folder / name, f"mbox {name}"
    path.write_bytes(content)
    for first in (True, False):
        facts = run_import(live, "mbox", path, "--mailbox", box).facts
        assert (facts["imported"], facts["already_there"]) == ((len(messages), 0) if first else (0, len(messages)))
        assert in_order(live, box) == [Stored(crlf(data), set(flags.split()), DATE) for data, flags in messages]


@pytest.mark.parametrize("line, date", [
    (b"From a@b Sun Sep  9 01:46:40 2001", DATE),
    (b"From a@b  Sun Sep 09 01:46 2001", DATE - 40),
    (b"From a@b Sun Sep  9 03:46:40 2001 +0200", DATE),
    (b'From "a b"@c Sun Sep  9 01:46:40 UTC 2001', DATE),
    (b"From - Sun Sep  9 01:46:40 2001", DATE),
    (b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970", 0),
    (b"From a@b Tue Jan 19 03:14:08 2038", 1 << 31),
])
def test_mbox_dates(live, mbox_folder, line, date):
    box = f"date {line.decode()}".replace('"', "").replace("@", " at ")
    (mbox_folder / "dates").write_bytes(line + b"\n" + mail(1))
    run_import(live, "mbox", mbox_folder / "dates", "--mailbox", box)
    assert [stored.date for stored in in_order(live, box)] == [date]


# ---- Again ----


def test_a_second_import_brings_what_is_new(place, tmp_path):
    root = tmp_path / "Maildir"
    expected = make_maildir(root)
    count = sum(map(len, expected.values()))
    run_import(place, "maildir", root)
    facts = run_import(place, "maildir", root).facts
    assert (facts["imported"], facts["already_there"]) == (0, count)
    # Programs move and rename files; a copy of a message is another message.
    os.rename(root / "new" / "1005.f.host", root / "cur" / "1005.f.host:2,S")
    put(root / "new", "2000.new", mail("new"))
    put(root / "new", "2001.copy", mail(0))
    facts = run_import(place, "maildir", root).facts
    assert (facts["imported"], facts["already_there"]) == (2, count)
    start(place)
    assert [stored.data for stored in in_order(place)] == [stored.data for stored in expected["INBOX"]] + [
        crlf(mail("new")), crlf(mail(0))]


def test_what_was_expunged_comes_again(live, tmp_path):
    """What tells that a message was imported goes with it."""
    put(tmp_path / "Maildir" / "cur", "1:2,", mail(1))
    run_import(live, "maildir", tmp_path / "Maildir")
    imap = live.imap()
    ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    imap.logout()
    assert run_import(live, "maildir", tmp_path / "Maildir").facts["imported"] == 1
    assert list(mailbox(live, "INBOX")) == [2]


COUNT = 4000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Some thousand messages, as a Maildir with a folder and as an mbox: {kind: path}"""
    folder = tmp_path_factory.mktemp("large")
    (folder / "Maildir" / "cur").mkdir(parents=True)
    (folder / "Maildir" / ".Sub" / "cur").mkdir(parents=True)
    with open(folder / "mbox", "wb") as mbox:
        for i in range(COUNT):
            data = mail(i, "0123456789abcdef\n" * (i % 97 * 4))
            below = "Maildir/.Sub" if i % 4 == 3 else "Maildir"
            (folder / below / "cur" / f"{i + 10000}.x:2,{'S' if i % 2 else ''}").write_bytes(data)
            mbox.write(FROM_LINE + data + b"\n")
    return {"maildir": folder / "Maildir", "mbox": folder / "mbox"}


def start_import(place, kind, path):
    return subprocess.Popen([PROGRAM, "-c", str(place.platform.config), "--json", "import", kind, str(path), "--account",
                             place.address],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check_large(place, kind, path):
    """All of it is there once, and an import has nothing to do."""
    facts = run_import(place, kind, path).facts
    assert (facts["imported"], facts["already_there"]) == (0, COUNT)
    start(place)
    found = list(mailbox(place, "INBOX").values())
    if kind == "maildir":
        below = mailbox(place, "Sub").values()
        assert len(below) == COUNT // 4
        found += below
    subjects = collections.Counter(re.search(rb"Subject: number (\d+)", stored.data).group(1) for stored in found)
    assert len(subjects) == COUNT and set(subjects.values()) == {1}


@pytest.mark.parametrize("kind", ["maildir", "mbox"])
def test_import_that_is_killed_goes_on(place, large, kind):
    """kill -9 again and again, each time later, until one run comes to its end."""
    killed, patience = 0, 0.02
    while True:
        process = start_import(place, kind, large[kind])
        try:
            process.communicate(timeout=patience)
            if process.returncode == 0:
                break
            time.sleep(0.05)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            patience *= 1.5
    assert killed > 0
    check_large(place, kind, large[kind])


def test_import_that_is_killed_in_the_middle(place, large, tmp_path):
    """A pipe that stops giving: here the kill surely comes between two messages."""
    os.mkfifo(tmp_path / "mbox")
    content = large["mbox"].read_bytes()
    process = start_import(place, "mbox", tmp_path / "mbox")
    with open(tmp_path / "mbox", "wb", buffering=0) as pipe:
        pipe.write(content[:len(content) // 2])
        time.sleep(0.2)
        process.kill()
        process.communicate()
    facts = run_import(place, "mbox", large["mbox"]).facts
    assert facts["imported"] + facts["already_there"] == COUNT and COUNT // 4 < facts["already_there"] <= COUNT // 2
    check_large(place, "mbox", large["mbox"])


# ---- What cannot be taken ----


def test_broken_items_are_named_and_left_out(place, tmp_path):
    root = tmp_path / "Maildir"
    put(root / "cur", "1.good:2,", mail(1))
    put(root / "cur", "2.empty:2,", b"")
    put(root / "cur", "3.long:2,", mail(3, "x\n" * 600_000))
    (root / "cur" / "4.folder").mkdir()
    (root / "cur" / "5.nowhere:2,").symlink_to("nowhere")
    os.mkfifo(root / "cur" / "6.pipe:2,")
    put(root / "cur", "7.good\udcff:2,S", mail(7))
    put(root / ".bad..name" / "cur", "1:2,", mail(8))
    put(root / ".good" / "cur", "1:2,", mail(9))
    put(root / ".badutf&-7&x" / "cur", "1:2,", mail(10))
    put(root / ".latin\udcfc1" / "cur", "1:2,", mail(11))
    (root / "link").symlink_to(".good")
    broken = ("2.empty:2,", "3.long:2,", "4.folder", "5.nowhere:2,", "6.pipe:2,", ".bad..name", ".badutf&-7&x", "link")

    result = run_import(place, "maildir", root, check=False)
    assert result.returncode == 1
    assert (result.facts["imported"], result.facts["left_out"]) == (3, len(broken) + 1)
    named = {os.path.basename(item["source"]): item["why"] for item in result.facts["left_out_items"]}
    # JSON has no way to name what is not UTF-8.
    assert set(named) == {*broken, "?"} and all(named.values())
    # For a person: a line for each, and the rest imported.
    result = place.platform.command("import", "maildir", root, "--account", place.address, check=False)
    assert result.returncode == 1 and "3 were there already" in result.stdout and "9 left out" in result.stdout
    for name in broken:
        assert re.search(rf"(?m)^sternpost: .*/{re.escape(name)}: left out: \w", result.stderr), result.stderr
    start(place)
    assert [stored.data for stored in in_order(place)] == [crlf(mail(1)), crlf(mail(7))]
    assert len(mailbox(place, "good")) == 1


def test_mbox_items_are_named_by_their_place(live, tmp_path):
    head = FROM_LINE + mail(1) + b"\n"
    (tmp_path / "mbox").write_bytes(head + FROM_LINE + b"\n" + FROM_LINE + mail(2))
    result = live.platform.command("import", "mbox", tmp_path / "mbox", "--account", live.address, check=False)
    assert result.returncode == 1 and f"byte {len(head)}: left out: " in result.stderr
    assert [stored.data for stored in in_order(live)] == [crlf(mail(1)), crlf(mail(2))]


def test_keywords_that_cannot_be(live, tmp_path):
    """What another program took for a keyword must not keep the message out."""
    words = "a(b \\Seen x*y {3} ]z good " + "k" * 2000
    (tmp_path / "mbox").write_bytes(FROM_LINE + f"X-Keywords: {words}\n".encode() + mail(1))
    run_import(live, "mbox", tmp_path / "mbox")
    [stored] = in_order(live)
    assert stored.flags == {"good"}


def test_more_keywords_than_a_mailbox_has(live, tmp_path):
    """Better without its keywords than not at all."""
    with open(tmp_path / "mbox", "wb") as mbox:
        for i in range(600):
            mbox.write(FROM_LINE + f"X-Keywords: word{i}\n".encode() + mail(i) + b"\n")
    run_import(live, "mbox", tmp_path / "mbox")
    found = in_order(live)
    assert sorted(stored.data for stored in found) == sorted(crlf(mail(i)) for i in range(600))
    assert sum(bool(stored.flags) for stored in found) >= 50


@pytest.mark.parametrize("kind, make, words", [
    ("maildir", None, "No such file"),
    ("maildir", lambda path: path.mkdir(), "not a Maildir"),
    ("maildir", lambda path: path.write_bytes(mail(1)), "Not a directory"),
    ("mbox", None, "No such file"),
    ("mbox", lambda path: path.mkdir(), "not an mbox"),
    ("mbox", lambda path: path.write_bytes(mail(1)), "not an mbox"),
])
def test_wrong_sources(live, tmp_path, kind, make, words):
    if make:
        make(tmp_path / "source")
    with pytest.raises(CommandFailed) as failed:
        run_import(live, kind, tmp_path / "source")
    assert failed.value.code == 1
    text = failed.value.stderr + failed.value.stdout
    assert str(tmp_path / "source") in text and words in text, text


def test_wrong_account(live, tmp_path):
    put(tmp_path / "cur", "1:2,", mail(1))
    with pytest.raises(CommandFailed) as failed:
        live.platform.command("import", "maildir", tmp_path, "--account", "nobody@example.org")
    assert failed.value.code == 1 and "nobody@example.org" in failed.value.stderr
    with pytest.raises(CommandFailed) as failed:
        live.platform.command("import", "maildir", tmp_path)
    assert failed.value.code == 2 and "--account" in failed.value.stderr


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a\tb", "x" * 1001, "a\udcff"])
def test_wrong_mailbox(live, tmp_path, name):
    put(tmp_path / "cur", "1:2,", mail(1))
    with pytest.raises(CommandFailed) as failed:
        live.platform.command("import", "maildir", tmp_path, "--account", live.address, "--mailbox", name)
    assert failed.value.code == 2 and "--mailbox: that is no name for a mailbox" in failed.value.stderr


def test_one_import_at_a_time(live, tmp_path, large):
    """Two imports would not know of each other's messages."""
    os.mkfifo(tmp_path / "mbox")
    first = start_import(live, "mbox", tmp_path / "mbox")
    with open(tmp_path / "mbox", "wb") as pipe:
        pipe.write(FROM_LINE + mail(1))
        pipe.flush()
        time.sleep(0.5)
        with pytest.raises(CommandFailed) as failed:
            run_import(live, "mbox", large["mbox"])
        assert "another import is under way" in failed.value.stderr + failed.value.stdout
    assert first.communicate(timeout=60) and first.returncode == 0
    assert [stored.data for stored in in_order(live)] == [crlf(mail(1))]


def test_delivery_goes_on_meanwhile(live, large):
    process = start_import(live, "mbox", large["mbox"])
    sent = 0
    with live.platform.smtp() as smtp:
        while process.poll() is None or sent < 5:
            smtp.sendmail("sender@example.net", [live.address], crlf(mail(f"live {sent}")))
            sent += 1
    assert process.communicate() and process.returncode == 0
    found = mailbox(live, "INBOX")
    assert len(found) == COUNT + sent
    assert sum(b"Subject: number live" in stored.data for stored in found.values()) == sent
