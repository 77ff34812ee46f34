"""Programs that people use: mbsync, curl, NeoMutt, swaks."""
import collections
import email.utils
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest
from platform_under_test import PASSWORD, Platform, fetch_all, message, ok, without_added


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def run(*words, **options):
    """What the program printed; it must end well."""
    result = subprocess.run([*map(str, words)], capture_output=True, timeout=120, stdin=subprocess.DEVNULL, **options)
    assert result.returncode == 0, (result.returncode, words, result.stdout[-3000:], result.stderr[-3000:])
    return result.stdout


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A platform with a certificate of its own: .cert is its path."""
    folder = tmp_path_factory.mktemp("secure")
    cert, key = folder / "cert.pem", folder / "key.pem"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert)
    platform = Platform(folder / "platform").init()
    text = platform.config.read_text()
    text = re.sub(r"(?m)^# \[tls\]\n# cert = .*\n# key = .*$", f"[tls]\ncert = {cert}\nkey = {key}", text)
    platform.config.write_text(text.replace("[listen]\n", "[listen]\nsmtps = 127.0.0.1:0\nimaps = 127.0.0.1:0\n"))
    platform.add_account("user@example.org")
    platform.start()
    platform.cert = cert
    yield platform
    assert platform.stop() == 0


def found(platform, marker, address="user@example.org"):
    imap = platform.imap(address)
    messages = [data for data in fetch_all(imap).values() if marker.encode() in data]
    imap.logout()
    return messages


# ---- mbsync ----

Stored = collections.namedtuple("Stored", "data flags date")
SUBJECT = re.compile(rb"(?m)^Subject: (.*)\r$")
# In modified UTF-7, as IMAP has them.
BOXES = ("INBOX", "Archive", "Work", "Work/Deep/Below", "Entw&APw-rfe", "&ZeVnLIqe-/&bUuL1Q-", "with blank", "a&-b")


def without_mark(data):
    """mbsync marks what it stores, to find it again if the connection breaks."""
    return re.sub(rb"(?m)^X-TUID: \S{12}\r?\n", b"", data, count=1)


def snapshot(platform, address):
    """{mailbox: {subject: Stored}} of mailboxes that hold something."""
    imap = platform.imap(address, select=None)
    boxes = {}
    for line in ok(imap.list()):
        name = re.search(rb'"/" "?([^"]*)"?$', line).group(1).decode()
        ok(imap.select(f'"{name}"', readonly=True))
        messages = {}
        for part in ok(imap.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")):
            if not isinstance(part, tuple):
                continue
            flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", part[0]).group(1).split()) - {rb"\Recent"}
            date = email.utils.parsedate_to_datetime(re.search(rb'INTERNALDATE "([^"]*)"', part[0]).group(1).decode())
            subject = SUBJECT.search(part[1]).group(1).decode()
            assert subject not in messages, f"{subject} is twice in {name}"
            messages[subject] = Stored(without_mark(part[1]), flags, date.timestamp())
        if messages:
            boxes[name] = messages
    imap.logout()
    return boxes


def state(platform, address):
    """What changes when anything does."""
    imap = platform.imap(address, select=None)
    names = [re.search(rb'"/" ("?[^"]*"?)$', line).group(1).decode() for line in ok(imap.list())]
    answers = [ok(imap.status(name, "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"))[0] for name in names]
    imap.logout()
    return answers


class Mbsync:
    """Two accounts, each kept the same as one Maildir."""

    def __init__(self, platform, folder, addresses):
        self.folder, self.rc = folder, folder / "rc"
        (folder / "Mail").mkdir()
        text = f'MaildirStore local\nPath "{folder}/Mail/"\nInbox "{folder}/Mail/INBOX"\nSubFolders Verbatim\n\n'
        for name, address in addresses.items():
            (folder / f"state-{name}").mkdir()
            text += (f'IMAPStore {name}\nHost 127.0.0.1\nPort {platform.ports["imap"]}\nUser {address}\n'
                     f'Pass "{PASSWORD}"\nSSLType None\nAuthMechs LOGIN\n\nChannel {name}\nFar :{name}:\nNear :local:\n'
                     f'Patterns *\nCreate Both\nExpunge Both\nCopyArrivalDate yes\n'
                     f'SyncState "{folder}/state-{name}/"\n\n')
        self.rc.write_text(text)

    def sync(self, *channels):
        """How many messages were added, changed, thrown away far, and the same near."""
        # It counts on a terminal only.
        terminal, inside = os.openpty()
        process = subprocess.Popen(["mbsync", "-c", str(self.rc), *channels], stdin=subprocess.DEVNULL, stdout=inside,
                                   stderr=inside, env=dict(os.environ, HOME=str(self.folder), COLUMNS="200"))
        os.close(inside)
        output = b""
        try:
            while piece := os.read(terminal, 65536):
                output += piece
        except OSError:  # its end
            pass
        os.close(terminal)
        assert process.wait(timeout=60) == 0, output
        counts = re.findall(r"F: \+(\d+)/\d+ \*(\d+)/\d+ #(\d+)/\d+ +N: \+(\d+)/\d+ \*(\d+)/\d+ #(\d+)/\d+",
                            output.decode())
        assert counts, output
        return tuple(map(int, counts[-1]))

    def files(self, box):
        return [path for part in ("cur", "new") for path in (self.folder / "Mail" / box / part).iterdir()]

    def file(self, box, subject):
        [path] = [path for path in self.files(box) if f"Subject: {subject}\n".encode() in path.read_bytes()]
        return path


def fill(platform, address):
    flags = ("", r"\Seen", r"\Answered \Seen", r"\Flagged", r"\Draft", r"\Seen $Forwarded", r"\Seen todo $Label1")
    imap = platform.imap(address)
    for number, box in enumerate(BOXES):
        if box not in ("INBOX", "Archive"):
            ok(imap.create(f'"{box}"'))
        for i, words in enumerate(flags):
            date = f'"{1 + number:02}-Mar-2003 0{i}:20:30 +0100"'
            body = ("plain\n", "caf\u00e9\n" * 50, "x" * 20000 + "\n", ".\n..\n.a\n")[i % 4]
            ok(imap.append(f'"{box}"', f"({words})", date, message(f"{number}-{i}", body)))
    imap.logout()


def without_keywords(boxes):
    """mbsync knows the system flags and $Forwarded."""
    def known(flags):
        return frozenset(flag for flag in flags if flag[:1] == b"\\" or flag == b"$Forwarded")
    return {name: {subject: stored._replace(flags=known(stored.flags)) for subject, stored in messages.items()}
            for name, messages in boxes.items()}


@needs("mbsync")
def test_mbsync(new_platform, tmp_path):
    """An account goes out to a Maildir and on into an empty account; then changes go across in all directions."""
    platform = new_platform(accounts=("old@example.org", "new@example.org"))
    fill(platform, "old@example.org")
    count = 7 * len(BOXES)
    mbsync = Mbsync(platform, tmp_path, {"old": "old@example.org", "new": "new@example.org"})

    assert mbsync.sync("old") == (0, 0, 0, count, 0, 0)
    assert mbsync.sync("new") == (count, 0, 0, 0, 0, 0)
    old, new = (snapshot(platform, f"{name}@example.org") for name in ("old", "new"))
    assert set(old) == set(BOXES) and sum(map(len, old.values())) == count
    assert new == without_keywords(old)
    for box in BOXES:
        for path in mbsync.files(box):
            subject = re.search(rb"(?m)^Subject: (.*)$", path.read_bytes()).group(1).decode()
            assert without_mark(path.read_bytes()).replace(b"\n", b"\r\n") == old[box][subject].data
            assert path.stat().st_mtime == old[box][subject].date

    # Nothing to do.
    before = [state(platform, f"{name}@example.org") for name in ("old", "new")]
    assert mbsync.sync("old", "new") == (0,) * 6
    assert [state(platform, f"{name}@example.org") for name in ("old", "new")] == before

    # Changes on the server.
    imap = platform.imap("old@example.org")
    ok(imap.store("1", "+FLAGS", r"(\Flagged)"))
    ok(imap.store("2", "-FLAGS", r"(\Seen)"))
    ok(imap.store("3", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    ok(imap.append("Entw&APw-rfe", r"(\Seen)", None, message("from the server")))
    ok(imap.create("Work/Made"))
    ok(imap.append("Work/Made", None, None, message("in a new mailbox")))
    imap.logout()
    with platform.smtp() as smtp:
        smtp.sendmail("a@example.net", ["old@example.org"], message("delivered"))
    # Changes in the Maildir.
    path = mbsync.file("Work", "2-0")
    path.rename(path.parent.parent / "cur" / (path.name.split(":")[0] + ":2,RS"))
    mbsync.file("Work", "2-1").unlink()
    path = tmp_path / "Mail" / "Work" / "new" / "1.local"
    path.write_bytes(message("from the Maildir", "caf\u00e9\n").replace(b"\r\n", b"\n"))

    # To remove a message is to mbsync a change of its flags.
    assert mbsync.sync("old") == (1, 2, 0, 3, 3, 0)
    assert mbsync.sync("new") == (4, 5, 0, 0, 0, 0)
    old, new = (snapshot(platform, f"{name}@example.org") for name in ("old", "new"))
    assert new == without_keywords(old)
    assert "0-2" not in old["INBOX"] and "2-1" not in old["Work"]
    assert {"delivered"} < set(old["INBOX"]) and set(old["Work/Made"]) == {"in a new mailbox"}
    assert old["INBOX"]["0-0"].flags == {rb"\Flagged"} and old["INBOX"]["0-1"].flags == set()
    assert old["Work"]["2-0"].flags == {rb"\Answered", rb"\Seen"}
    assert old["Work"]["from the Maildir"].data == message("from the Maildir", "caf\u00e9\n")
    assert old["Archive"]["1-6"].flags == {rb"\Seen", b"todo", b"$Label1"}
    assert mbsync.sync("old", "new") == (0,) * 6

    # The Maildir is one to import.
    platform.add_account("third@example.org")
    platform.command("import", "maildir", tmp_path / "Mail", "--account", "third@example.org")
    assert snapshot(platform, "third@example.org") == without_keywords(old)


# ---- curl ----


class Curl:
    def __init__(self, port, box=""):
        self.url = f"imap://127.0.0.1:{port}/{box}"

    def __call__(self, path="", *options):
        return run("curl", "-sS", "-u", f"user@example.org:{PASSWORD}", self.url + path, *options)


@pytest.fixture
def curl(shared_platform):
    """In a mailbox of its own, whose name is .box."""
    box = "curl-" + uuid.uuid4().hex[:8]
    curl = Curl(shared_platform.ports["imap"])
    curl("", "-X", f"CREATE {box}")
    curl = Curl(shared_platform.ports["imap"], box)
    curl.box = box
    return curl


@needs("curl")
def test_curl_lists_and_fetches(shared_platform, curl, tmp_path):
    data = message("Gr\u00fc\u00dfe", "caf\u00e9\n.\n..\nlast\n" * 1000)
    (tmp_path / "mail").write_bytes(data)
    curl("", "-T", tmp_path / "mail")
    curl("", "-T", tmp_path / "mail")
    listed = Curl(shared_platform.ports["imap"])()
    assert f'"/" {curl.box}'.encode() in listed.replace(b'"' + curl.box.encode() + b'"', curl.box.encode())
    assert b"INBOX" in listed
    assert curl(";MAILINDEX=1") == data
    assert curl(";UID=2") == data
    assert curl(";UID=1;SECTION=TEXT") == data.split(b"\r\n\r\n", 1)[1]
    assert curl(";MAILINDEX=2;SECTION=HEADER.FIELDS%20(FROM)") == b"From: a@example.net\r\n\r\n"


@needs("curl")
def test_curl_searches_and_changes(curl, tmp_path):
    for i in range(3):
        (tmp_path / "mail").write_bytes(message(f"number {i}"))
        curl("", "-T", tmp_path / "mail")
    assert curl("?ALL") == b"* SEARCH 1 2 3\r\n"
    assert curl('?SUBJECT%20"number%201"') == b"* SEARCH 2\r\n"
    assert rb"\Deleted" in curl("", "-X", r"STORE 2 +FLAGS (\Deleted)")
    assert curl("?DELETED") == b"* SEARCH 2\r\n"
    assert b"* 2 EXPUNGE" in curl("", "-X", "EXPUNGE")
    assert b"* 2 EXISTS" in curl("", "-X", f"EXAMINE {curl.box}")
    assert b"FLAGS" in curl("", "-X", "FETCH 1:* (FLAGS UID)")


@needs("curl")
def test_curl_smtp(shared_platform, tmp_path):
    marker = uuid.uuid4().hex
    data = message(marker, ".dot\ncaf\u00e9\n" * 5000)
    (tmp_path / "mail").write_bytes(data)
    run("curl", "-sS", f"smtp://127.0.0.1:{shared_platform.ports['smtp']}/client.example.net", "--mail-from",
        "a@example.net", "--mail-rcpt", "user@example.org", "--mail-rcpt", "other@example.org", "-T", tmp_path / "mail")
    for address in ("user@example.org", "other@example.org"):
        assert [without_added(stored) for stored in found(shared_platform, marker, address)] == [data]


@needs("curl", "openssl")
@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_curl_imap_with_tls(secure, tmp_path, scheme):
    (tmp_path / "mail").write_bytes(message(scheme))
    words = ("curl", "-sS", "--ssl-reqd", "--cacert", secure.cert, "-u", f"user@example.org:{PASSWORD}")
    box = f"{scheme}://localhost:{secure.ports[scheme]}/INBOX"
    run(*words, "--resolve", f"localhost:{secure.ports[scheme]}:127.0.0.1", box, "-T", tmp_path / "mail")
    uid = run(*words, f"{box}?SUBJECT%20{scheme}%20NOT%20SUBJECT%20{scheme}x").split()[-1].decode()
    assert run(*words, f"{box};MAILINDEX={uid}") == message(scheme)


@needs("curl", "openssl")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl_smtp_with_tls(secure, tmp_path, scheme):
    marker = uuid.uuid4().hex
    (tmp_path / "mail").write_bytes(message(marker))
    run("curl", "-sS", "--ssl-reqd", "--cacert", secure.cert, f"{scheme}://localhost:{secure.ports[scheme]}",
        "--mail-from", "a@example.net", "--mail-rcpt", "user@example.org", "-T", tmp_path / "mail")
    [stored] = found(secure, marker)
    assert without_added(stored) == message(marker)
    assert re.search(rb"\r\n\tby \S+ [^\r]*with ESMTPS ", stored), stored


# ---- swaks ----


def swaks(port, marker, *options, to=("user@example.org",)):
    """The conversation."""
    return run("swaks", "--server", "127.0.0.1", "--port", port, "--from", "a@example.net", "--to", ",".join(to),
               "--helo", "client.example.net", "--header", f"Subject: {marker}", "--body", ".dot", *options).decode()


@needs("swaks")
@pytest.mark.parametrize("options", [(), ("--pipeline",), ("--protocol", "SMTP")])
def test_swaks(shared_platform, options):
    marker = uuid.uuid4().hex
    both = ("user@example.org", "other@example.org")
    talk = swaks(shared_platform.ports["smtp"], marker, *options, to=both)
    at_once = re.search(r"\n -> MAIL.*\n -> RCPT.*\n -> RCPT.*\n -> DATA\n", talk)
    assert bool(at_once) == (options == ("--pipeline",)), talk
    for address in both:
        [stored] = found(shared_platform, marker, address)
        assert b"\r\n\r\n.dot\r\n" in stored


@needs("swaks")
@pytest.mark.parametrize("options", [(), ("--pipeline",)])
def test_swaks_lmtp(shared_platform, options):
    marker = uuid.uuid4().hex
    talk = swaks(shared_platform.ports["lmtp"], marker, "--protocol", "LMTP", *options,
                 to=("user@example.org", "other@example.org"))
    assert "LHLO client.example.net" in talk
    for address in ("user@example.org", "other@example.org"):
        assert len(found(shared_platform, marker, address)) == 1
    result = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(shared_platform.ports["lmtp"]), "--protocol",
                             "LMTP", "--from", "a@example.net", "--to", "nobody@example.org"], capture_output=True,
                            timeout=60)
    assert result.returncode != 0 and b"550 5.1.1" in result.stdout


@needs("swaks", "openssl")
@pytest.mark.skipif(subprocess.run(["perl", "-MNet::SSLeay", "-e1"], capture_output=True).returncode != 0,
                    reason="swaks has no TLS: Net::SSLeay is not installed")
@pytest.mark.parametrize("options, protocol, sign", [
    (("--tls",), "smtp", b"ESMTPS"),
    (("--tls", "--pipeline"), "smtp", b"ESMTPS"),
    (("--tls-on-connect",), "smtps", b"ESMTPS"),
    (("--tls", "--protocol", "LMTP"), "lmtp", b"LMTPS"),
])
def test_swaks_tls(secure, options, protocol, sign):
    marker = uuid.uuid4().hex
    talk = swaks(secure.ports[protocol], marker, "--tls-verify", "--tls-ca-path", secure.cert, *options)
    assert "=== TLS started with cipher TLSv1.3" in talk and "~> DATA" in talk, talk
    if protocol != "smtps":
        assert "-> STARTTLS" in talk
        after = talk[talk.index("=== TLS started"):]
        assert "STARTTLS" not in after, "offered again under TLS"
    [stored] = found(secure, marker)
    assert re.search(rb"\r\n\tby \S+ [^\r]*with " + sign + b" ", stored), stored


# ---- NeoMutt ----


class Screen:
    """A program in a terminal."""

    def __init__(self, folder, command, **environment):
        # A socket's path must be short, pytest's folders are not.
        self.folder = Path(tempfile.mkdtemp(prefix="sp-"))
        self.tmux = ["tmux", "-S", str(self.folder / "s"), "-f", "/dev/null"]
        env = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "screen", **environment}
        run(*self.tmux, "new-session", "-d", "-x", "120", "-y", "30", command, env=env)

    def text(self):
        shown = subprocess.run([*self.tmux, "capture-pane", "-p"], capture_output=True, text=True, timeout=30)
        return shown.stdout if shown.returncode == 0 else None

    def wait(self, *words, absent=()):
        deadline = time.monotonic() + 30
        while True:
            shown = self.text()
            if shown and all(word in shown for word in words) and not any(word in shown for word in absent):
                return shown
            assert time.monotonic() < deadline, f"no {words} in:\n{shown}"
            time.sleep(0.05)

    def keys(self, *keys):
        run(*self.tmux, "send-keys", *keys)

    def wait_for_end(self):
        deadline = time.monotonic() + 30
        while self.text() is not None:
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, timeout=30)
        shutil.rmtree(self.folder)


@pytest.fixture
def new_screen(tmp_path):
    made = []

    def make(command, **environment):
        made.append(Screen(tmp_path, command, **environment))
        return made[-1]
    yield make
    for screen in made:
        screen.close()


def neomutt_rc(folder, url, *lines):
    (folder / "rc").write_text("\n".join([
        f'set imap_user="user@example.org" imap_pass="{PASSWORD}" folder="{url}" spoolfile="{url}INBOX"',
        f'set tmpdir="{folder}" record="" header_cache="{folder}/cache" certificate_file="{folder}/certificates"',
        "set quit=yes delete=yes wait_key=no beep=no move=no mark_old=no confirmappend=no sleep_time=0 charset=utf-8",
        "set sort=mailbox-order", *lines, ""]))
    return f"neomutt -n -F {folder}/rc"


@needs("neomutt", "tmux")
def test_neomutt(new_platform, new_screen, tmp_path):
    """Shows INBOX, reads a message, flags one, deletes one, copies one, sees new mail, and quits."""
    platform = new_platform()
    imap = platform.imap("user@example.org")
    for i in range(6):
        ok(imap.append("INBOX", None, None, message(f"number {i}", f"This is what {i} says: caf\u00e9.\n",
                                                    extra="Content-Type: text/plain; charset=utf-8\n")))
    command = neomutt_rc(tmp_path, f"imap://127.0.0.1:{platform.ports['imap']}/", "set ssl_starttls=no ssl_force_tls=no",
                         "set timeout=1 mail_check=1 imap_idle=yes")
    screen = new_screen(command)
    screen.wait(*(f"number {i}" for i in range(6)))
    screen.keys("1", "Enter", "Enter")
    screen.wait("This is what 0 says: caf\u00e9.")
    screen.keys("q")
    screen.wait("number 0", "number 5", absent=("This is what",))
    screen.keys("2", "Enter", "F")
    screen.wait("number 5")
    screen.keys("3", "Enter", "d")
    screen.keys("5", "Enter", "C")
    screen.wait("Copy to mailbox")
    screen.keys("C-u", "=Archive", "Enter")
    screen.wait("number 5", absent=("Copy to mailbox",))
    with platform.smtp() as smtp:
        smtp.sendmail("a@example.net", ["user@example.org"], message("while it looks on"))
    screen.wait("while it looks on")
    screen.keys("q")
    screen.wait_for_end()

    imap.logout()
    imap = platform.imap("user@example.org")
    flags = {}
    for line in ok(imap.fetch("1:*", "(UID FLAGS)")):
        flags[int(re.search(rb"UID (\d+)", line).group(1))] = re.search(rb"FLAGS \(([^)]*)\)", line).group(1).split()
    assert sorted(flags) == [1, 2, 4, 5, 6, 7]
    assert rb"\Seen" in flags[1] and rb"\Flagged" in flags[2] and rb"\Flagged" not in flags[4]
    ok(imap.select("Archive"))
    [copy] = fetch_all(imap).values()
    assert b"Subject: number 4\r\n" in copy
    imap.logout()


@needs("neomutt", "tmux", "openssl")
@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_neomutt_with_tls(secure, new_screen, tmp_path, scheme):
    marker = uuid.uuid4().hex
    imap = secure.imap("user@example.org")
    ok(imap.append("INBOX", None, None, message(marker)))
    imap.logout()
    shutil.copy(secure.cert, tmp_path / "certificates")
    command = neomutt_rc(tmp_path, f"{scheme}://localhost:{secure.ports[scheme]}/",
                         "set ssl_starttls=yes ssl_force_tls=yes")
    screen = new_screen(command)
    screen.wait(marker)
    screen.keys("q")
    screen.wait_for_end()
