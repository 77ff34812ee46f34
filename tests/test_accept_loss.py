"""Going on without what is lacking, and merging it back: three units, of which one stays behind while the two others go
on; the start on it is refused, then accepted; clients are refused, mail is taken in; the others come back."""
import json
import re
import shutil
import subprocess
import time

import pytest

from platform_under_test import PROGRAM, Platform, fetch_all, message, ok, uids

ANNA, BEN = "anna@example.org", "ben@example.org"


def send(platform, subject, to=ANNA):
    with platform.smtp() as smtp:
        smtp.sendmail("a@example.net", [to], message(subject, to=to))


def subjects(platform, address=ANNA, select="INBOX"):
    """By UID."""
    imap = platform.imap(address, select=select)
    found = {}
    for uid in uids(imap):
        data = ok(imap.uid("FETCH", str(uid), "(BODY.PEEK[])"))
        found[uid] = re.search(rb"Subject: (.*)\r\n", data[0][1]).group(1).decode()
    imap.logout()
    return found


def uidvalidity(platform, name="INBOX"):
    imap = platform.imap(ANNA, select=None)
    data = ok(imap.status(name, "(UIDVALIDITY)"))[0].decode()
    imap.logout()
    return re.search(r"UIDVALIDITY (\d+)", data).group(1)


def take_away(platform, *names):
    for name in names:
        (platform.folder / name).rename(platform.folder / f"away-{name}")


def bring_back(platform, *names):
    for name in names:
        (platform.folder / f"away-{name}").rename(platform.folder / name)


def units(platform):
    return sorted(path.name for path in platform.folder.iterdir() if path.is_dir())


def refused(platform, *words):
    result = platform.command("serve", *words, check=False, timeout=60)
    assert result.returncode != 0, result.stderr
    return result.stderr


def start_accepting(platform):
    platform.arguments = ["--accept-loss", "main"]
    platform.start()
    platform.arguments = []


def wait_for(platform, event, seconds=60):
    deadline = time.monotonic() + seconds
    while not re.search(event, platform.log_text()):
        assert time.monotonic() < deadline, platform.log_text()[-3000:]
        time.sleep(0.1)


@pytest.fixture
def platform(tmp_path):
    p = Platform(tmp_path / "p").init()
    yield p
    p.kill()


def split(platform):
    """Unit a has what both had; b and c have more. Returns what both had, and what b and c have."""
    platform.configure(degraded="accept")
    platform.add_account(ANNA)
    platform.start()
    for i in range(3):
        send(platform, f"both {i}")
    before = subjects(platform)
    platform.stop()
    take_away(platform, "a")
    platform.start()
    for i in range(4):
        send(platform, f"others {i}")
    imap = platform.imap(ANNA)
    ok(imap.uid("STORE", "1", "+FLAGS", "(\\Seen)"))
    ok(imap.create('"Made by others"'))
    ok(imap.uid("COPY", "1:2", '"Made by others"'))
    imap.logout()
    platform.command("account", "add", BEN, stdin="other password\n")
    send(platform, "to ben", BEN)
    after = subjects(platform)
    platform.stop()
    take_away(platform, "b", "c")
    bring_back(platform, "a")
    return before, after


def test_accept_and_merge(platform):
    before, others = split(platform)
    validity = None
    text = refused(platform)
    assert "only 1 of the 3 units" in text and "--accept-loss main" in text
    text = refused(platform, "--accept-loss", "mail")
    assert "the volume of this configuration is main" in text
    start_accepting(platform)

    imap = platform.imap(ANNA, select=None)
    for answer in (imap.select("INBOX"), imap.select("INBOX", readonly=True), imap.status("INBOX", "(MESSAGES)"), imap.list(), imap.lsub()):
        assert answer[0] == "NO" and b"UNAVAILABLE" in answer[1][0], answer
    imap.logout()
    for i in range(2):
        send(platform, f"since {i}")
    # Whoever may be among the lost accounts is told to wait.
    with platform.smtp() as smtp:
        smtp.ehlo()
        smtp.mail("a@example.net")
        assert smtp.rcpt(BEN)[0] // 100 == 4
    platform.stop()
    platform.start()  # it needs no acceptance any more
    imap = platform.imap(ANNA, select=None)
    assert imap.select("INBOX")[0] == "NO"
    imap.logout()

    assert "a loss was accepted" in platform.command("volume", "list").stdout
    bring_back(platform, "b")
    result = platform.command("unit", "add", "b")
    assert "merge" in result.stdout, result.stdout
    wait_for(platform, r"event=merge\.end .*complete=1")
    wait_for(platform, r"event=unit\.resilvered")
    assert "a loss was accepted" not in platform.command("volume", "list").stdout
    found = subjects(platform)
    assert {uid: found[uid] for uid in others} == others
    rest = {uid: subject for uid, subject in found.items() if uid not in others}
    assert sorted(rest.values()) == ["since 0", "since 1"] and min(rest) > max(others) + 2**20 - 10
    assert list(subjects(platform, select='"Made by others"').values()) == ["both 0", "both 1"]
    imap = platform.imap(ANNA)
    assert b"\\Seen" in ok(imap.uid("FETCH", "1", "(FLAGS)"))[0]
    imap.logout()
    ben = platform.imap(BEN, "other password")
    assert len(fetch_all(ben)) == 1
    ben.logout()
    send(platform, "afterwards")
    whole = subjects(platform)
    validity = uidvalidity(platform)
    # The other unit has nothing more, and becomes a voter again.
    bring_back(platform, "c")
    platform.command("unit", "add", "c")
    wait_for(platform, r"event=merge\.end .*messages=0 .*complete=1")
    wait_for(platform, r"event=unit\.back .*unit=c")
    platform.stop()
    # Units that hold the merged history, without the one that accepted the loss; from the log alone.
    take_away(platform, "a")
    for path in (platform.folder / "state").glob("index-*"):
        shutil.rmtree(path)
    platform.start()
    assert subjects(platform) == whole and uidvalidity(platform) == validity


def rebuild(platform, tmp_path, name, *sources):
    out = tmp_path / name
    for words in (["scan", "--out", out, *(platform.folder / s for s in sources)], ["rebuild", out, "--json"]):
        result = subprocess.run([PROGRAM, "recover", *map(str, words)], check=True, capture_output=True, text=True)
    rebuilt = Platform(out)
    rebuilt.config.write_text(re.sub(r"(?m)^(smtp|lmtp|imap) = .*", r"\1 = 127.0.0.1:0", rebuilt.config.read_text()))
    return rebuilt, json.loads(result.stdout)


def test_raw_recovery_of_both_histories(platform, tmp_path):
    """Disks of both histories under one scan: the log is the one that goes on, the other is told of; once it is merged it
    is void like anything else."""
    before, others = split(platform)
    start_accepting(platform)
    send(platform, "since")
    platform.stop()
    bring_back(platform, "b")
    rebuilt, report = rebuild(platform, tmp_path, "unmerged", "a", "b")
    assert any("Another history" in note and "unit add" in note for note in report["notes"]), report["notes"]
    assert report["lost_lsns"] == 0, report
    platform.start()
    wait_for(platform, r"event=merge\.end .*complete=1")
    wait_for(platform, r"event=unit\.resilvered")
    whole = subjects(platform)
    platform.stop()
    rebuilt, report = rebuild(platform, tmp_path, "merged", "a", "b")
    assert not any("Another history" in note for note in report["notes"]), report["notes"]
    assert report["lost_lsns"] == 0 and not report["broken"], report
    rebuilt.start()
    try:
        assert subjects(rebuilt) == whole
    finally:
        rebuilt.kill()


def test_unprotect_before_merging(platform):
    before, others = split(platform)
    start_accepting(platform)
    send(platform, "since")
    result = platform.command("account", "unprotect", ANNA, "--confirm", "something else", check=False)
    assert result.returncode == 1 and "not confirmed" in result.stderr
    assert "no terminal" in platform.command("account", "unprotect", ANNA, stdin=ANNA + "\n", check=False).stderr
    platform.command("account", "unprotect", ANNA, "--confirm", ANNA)
    seen = subjects(platform)
    assert sorted(seen.values()) == sorted([*before.values(), "since"])
    send(platform, "since then")
    seen = subjects(platform)
    platform.stop()
    bring_back(platform, "b", "c")
    platform.start()
    wait_for(platform, r"event=merge\.end .*complete=1")
    found = subjects(platform)
    # What a client has seen stays as it was; what it could have missed has UIDs above.
    assert {uid: found[uid] for uid in seen} == seen
    rest = {uid: subject for uid, subject in found.items() if uid not in seen}
    assert sorted(rest.values()) == [f"others {i}" for i in range(4)] and min(rest) > max(seen)
    assert list(subjects(platform, select='"Made by others"').values()) == ["both 0", "both 1"]


def test_unprotect_all(platform):
    before, _ = split(platform)
    start_accepting(platform)
    assert platform.command("account", "unprotect", check=False).returncode == 2
    platform.command("account", "unprotect", "--all", "--confirm", "main")
    assert subjects(platform) == before
    imap = platform.imap(ANNA)
    ok(imap.create("again"))
    ok(imap.list())
    platform.add_account("carl@example.org")


def test_nothing_lacking(platform):
    platform.add_account(ANNA)
    start_accepting(platform)
    send(platform, "hello")
    assert list(subjects(platform)) == [1]
    platform.stop()
    assert "accept_loss" not in platform.log_text()


def test_a_clone_beside_its_original(platform):
    platform.add_account(ANNA)
    shutil.rmtree(platform.folder / "c")
    shutil.copytree(platform.folder / "b", platform.folder / "c")
    text = refused(platform)
    assert "b" in text and "c" in text and "same" in text, text
    shutil.rmtree(platform.folder / "c")
    platform.start()
    shutil.copytree(platform.folder / "b", platform.folder / "c")
    result = platform.command("unit", "add", "c", check=False)
    assert result.returncode == 1 and "unit b" in result.stderr, result.stderr


def test_an_old_clone_alone(platform):
    platform.add_account(ANNA)
    shutil.copytree(platform.folder / "a", platform.folder / "old-a")
    platform.start()
    send(platform, "hello")
    platform.stop()
    take_away(platform, "a", "b", "c")
    (platform.folder / "old-a").rename(platform.folder / "a")
    assert "only 1 of the 3 units" in refused(platform)
