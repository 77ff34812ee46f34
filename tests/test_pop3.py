"""POP3 as clients use it: poplib, curl, getmail; and what another session sees of it."""
import poplib
import re
import shutil
import subprocess
import time

import pytest
from platform_under_test import PASSWORD, Platform, fetch_all, message, ok, uids


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("pop3")).init()
    platform.start()
    yield platform
    assert platform.stop() == 0


@pytest.fixture
def account(platform, request):
    """A fresh account with three messages; the last is long and full of dots."""
    address = platform.add_account(f"{request.node.name.replace('_', '-')}@example.org")
    imap = platform.imap(address)
    dots = b"Subject: dots\r\n\r\n" + b".\r\n..\r\n.end\r\n" * 40000
    for data in (message("one", "1\n"), message("two", "2\n"), dots):
        ok(imap.append("INBOX", "", None, data))
    imap.logout()
    return address


def retrieve(pop, number):
    return b"".join(line + b"\r\n" for line in pop.retr(number)[1])


def test_fetched_as_stored(platform, account):
    stored = list(fetch_all(platform.imap(account)).values())
    pop = platform.pop3(account)
    assert pop.stat() == (3, sum(map(len, stored)))
    assert [retrieve(pop, n) for n in (1, 2, 3)] == stored
    assert [int(line.split()[1]) for line in pop.list()[1]] == [len(data) for data in stored]
    top = pop.top(3, 2)[1]
    assert top == [b"Subject: dots", b"", b".", b".."]
    pop.quit()
    # What was fetched whole counts as read.
    imap = platform.imap(account)
    assert ok(imap.search(None, "SEEN")) == [b"1 2 3"]


def test_deleted_at_quit_only(platform, account):
    pop = platform.pop3(account)
    pop.dele(2)
    pop.close()
    imap = platform.imap(account)
    assert len(uids(imap)) == 3
    deadline = time.monotonic() + 20
    while True:  # the server notices the end of the connection in its own time
        try:
            pop = platform.pop3(account)
            break
        except poplib.error_proto as error:
            assert b"[IN-USE]" in error.args[0] and time.monotonic() < deadline
            time.sleep(0.05)
    pop.dele(1)
    pop.dele(3)
    pop.quit()
    assert [b"Subject: two" in data for data in fetch_all(imap).values()] == [True]


def test_one_at_a_time(platform, account):
    first = platform.pop3(account)
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        platform.pop3(account)
    first.quit()
    # After the answer to QUIT the maildrop is free: no client has to wait.
    for _ in range(20):
        platform.pop3(account).quit()


def test_what_another_session_expunges(platform, account):
    pop = platform.pop3(account)
    imap = platform.imap(account)
    ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    with pytest.raises(poplib.error_proto, match="gone"):
        pop.retr(1)
    assert b"Subject: two" in retrieve(pop, 2)
    assert len(pop.list()[1]) == 3  # numbers do not move
    pop.dele(1)
    pop.dele(2)
    pop.quit()
    assert len(uids(imap)) == 1


def test_unique_ids_stay(platform, account):
    def ids(pop):
        return [line.split()[1] for line in pop.uidl()[1]]

    pop = platform.pop3(account)
    before = ids(pop)
    assert len(set(before)) == 3 and all(re.fullmatch(rb"[0-9a-f]{32}", one) for one in before)
    pop.dele(1)
    pop.quit()
    assert platform.stop() == 0
    platform.command("index", "rebuild")
    platform.start()
    pop = platform.pop3(account)
    assert ids(pop) == before[1:]
    pop.quit()


def test_wrong_password(platform, account):
    with pytest.raises(poplib.error_proto, match="AUTH"):
        platform.pop3(account, password="wrong")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        platform.pop3("nobody@example.org")


def test_pipelining(platform, account):
    pop = platform.pop3(account)
    pop.sock.sendall(b"STAT\r\nUIDL 1\r\nRETR 3\r\nNOOP\r\nTOP 1 0\r\nQUIT\r\n")
    data = b""
    while piece := pop.file.read(65536):
        data += piece
    assert data.startswith(b"+OK 3 ") and data.endswith(b"\r\n.\r\n+OK Bye\r\n")
    assert data.count(b"\r\n.\r\n+OK") == 2


@pytest.mark.skipif(not shutil.which("curl"), reason="not installed: curl")
def test_curl(platform, account):
    def curl(*words):
        result = subprocess.run(["curl", "-sS", "--user", f"{account}:{PASSWORD}", *words], capture_output=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    url = f"pop3://127.0.0.1:{platform.ports['pop3']}/"
    assert len(curl(url).splitlines()) == 3
    assert b"Subject: two" in curl(url + "2")
    assert curl("--login-options", "AUTH=PLAIN", url + "3").count(b"..") == 40000


@pytest.mark.skipif(not shutil.which("getmail"), reason="not installed: getmail6")
def test_getmail_keeps_and_deletes(platform, account, tmp_path):
    config, got = tmp_path / "rc", tmp_path / "got"

    def getmail(delete):
        config.write_text(f"""[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {platform.ports['pop3']}
username = {account}
password = {PASSWORD}
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "grep ^Subject: >> {got}")
allow_root_commands = true
[options]
delete = {delete}
read_all = false
delivered_to = false
received = false
""")
        result = subprocess.run(["getmail", f"--getmaildir={tmp_path}", f"--rcfile={config}"], capture_output=True,
                                text=True, timeout=120)
        assert result.returncode == 0, result.stdout + result.stderr
        return got.read_text().split("Subject: ")[1:]

    assert getmail("false") == ["one\n", "two\n", "dots\n"]
    assert len(getmail("false")) == 3  # nothing is downloaded twice
    imap = platform.imap(account)
    ok(imap.append("INBOX", "", None, message("four", "4\n")))
    assert getmail("true")[3:] == ["four\n"]
    assert uids(platform.imap(account)) == []
