"""Space that expunged mail held comes back; until its hold ends the mail does; what is erased never does."""
import json
import random
import subprocess
import time

import pytest
from format_reader import Segment
from mailbox_state import account_state
from platform_under_test import PROGRAM, CommandFailed, Platform, fetch_all, message, ok, uids

USER = "user@example.org"


def append(imap, count, mailbox="INBOX", kilobytes=20, seed=1):
    """Messages that do not compress."""
    noise = random.Random(seed)
    for number in range(count):
        body = noise.randbytes(kilobytes * 1024).hex() + "\n"
        ok(imap.append(mailbox, r"(\Seen $Kept)", None, message(subject=f"{mailbox} {number}", body=body)))


def expunge(imap, which):
    ok(imap.uid("STORE", which, "+FLAGS.SILENT", r"(\Deleted)"))
    ok(imap.expunge())


def compact(platform):
    return json.loads(platform.command("compact", "--now", "--json").stdout)


def live_files(platform):
    """Segment files on unit a that are the log, as the heads say: from the newest back."""
    files = {}
    for path in (platform.folder / "a" / "segments").glob("*.seg"):
        number, generation = path.name.split(".")[:2]
        segment = Segment(path.read_bytes())
        if int(generation, 16) == 0 or segment.trailer():
            if segment.head():
                files.setdefault(int(number, 16), {})[int(generation, 16)] = (path, segment)
    at, live = max(files), []
    while at:
        path, segment = files[at][max(files[at])]
        live.append((path, segment))
        at = segment.head()["previous"]["segment"]
    return live


@pytest.fixture
def small(new_platform):
    """A platform with small segments, so that there are several."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", hold="0", compact_rate="0", scrub_rate="0")
    return platform.start()


def test_space_comes_back(small):
    imap = small.imap(USER)
    append(imap, 200)
    expunge(imap, "1:170")
    before = account_state(small, USER)
    facts = compact(small)
    assert facts["merged"] >= 2 and facts["dropped_bytes"] > 2 << 20
    assert facts["retired_segments"] >= 2 and facts["retired_bytes"] > 4 << 20  # on two units
    assert "past their hold" in small.command("compact").stdout
    assert account_state(small, USER) == before and len(uids(imap)) == 30
    on_disk = sum(path.stat().st_size for path in (small.folder / "a" / "segments").glob("*.seg"))
    assert on_disk - facts["retired_bytes"] / 2 < 3 << 20  # what is left when they are deleted
    # A session that was open all the time, a start, and an index made from the log.
    assert len(fetch_all(imap)) == 30
    append(imap, 3)
    assert uids(imap)[-1] == 203
    imap.logout()
    before = account_state(small, USER)
    small.stop()
    small.start()
    assert account_state(small, USER) == before
    small.stop()
    small.command("index", "rebuild")
    small.start()
    assert account_state(small, USER) == before


def segment_bytes(platform, unit):
    return sum(path.stat().st_size for path in (platform.folder / unit / "segments").glob("*.seg"))


def test_files_go_under_the_policy_alone(small):
    imap = small.imap(USER)
    append(imap, 200)
    expunge(imap, "1:170")
    before = account_state(small, USER)
    assert compact(small)["merged"] >= 2
    compact(small)  # finds that the hold of what was retired has passed
    full = [segment_bytes(small, unit) for unit in "ab"]
    time.sleep(12)
    assert [segment_bytes(small, unit) for unit in "ab"] == full  # nobody allowed it
    small.command("guard", "policy", "segments.delete", "--confirm", "segments.delete")
    deadline = time.monotonic() + 60
    while any(segment_bytes(small, unit) > 4 << 20 for unit in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = json.loads(small.command("guard", "list", "--all", "--json").stdout)
    assert any(row["subject"].startswith("segment ") and row["state"] == "done" for row in done)
    assert account_state(small, USER) == before
    small.stop()
    small.command("index", "rebuild")
    small.start()
    assert account_state(small, USER) == before
    assert "0 segments" in small.command("compact").stdout.split("retired", 1)[1]


def test_independent_reader_follows(small):
    """LSNs of the live log: each is there, or a DROPPED record stands for it; and every chain holds."""
    imap = small.imap(USER)
    append(imap, 120)
    expunge(imap, "1:100")
    assert compact(small)["merged"] >= 2
    small.stop()
    seen, dropped, chains, types = set(), set(), {}, set()
    for path, segment in reversed(live_files(small)):
        assert segment.end()["blocks"] == (segment.trailer() or segment.end() | {"data_blocks": segment.end()["blocks"]})["data_blocks"]
        records = list(segment.records())
        if segment.trailer():
            assert [r["lsn"] for r in segment.table()] == [r["lsn"] for r in records]
        for record in records:
            assert record["lsn"] not in seen
            seen.add(record["lsn"])
            types.add((record["type"], record["flags"]))
            if record["type"] == "dropped":
                dropped.update(lsn for first, last in record["lsns"] for lsn in range(first, last + 1))
            if record["flags"] & 2:
                chain = (record["account"], record["mailbox"])
                assert record["previous"] == chains.get(chain, 0), record
                chains[chain] = record["lsn"]
    assert seen | dropped == set(range(1, max(seen) + 1))
    assert ("dropped", 1) in types and ("dropped", 2) in types
    small.start()


def test_undelete_within_hold(new_platform):
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", compact_rate="0")
    platform.start()
    imap = platform.imap(USER)
    ok(imap.create("Old"))
    append(imap, 60)
    append(imap, 5, "Old", seed=2)
    was = account_state(platform, USER)
    imap.uid("MOVE", "60", "Old")
    expunge(imap, "1:50")
    ok(imap.delete("Old"))
    facts = compact(platform)
    assert facts["dropped_bytes"] == 0
    with pytest.raises(CommandFailed) as failed:
        platform.command("undelete", "--account", "nobody@example.org")
    assert "no such account" in failed.value.stderr
    assert platform.command("undelete", "--account", USER, "--since", "soon", check=False).returncode == 2
    back = json.loads(platform.command("undelete", "--account", USER, "--since", "1h", "--json").stdout)
    assert back["messages"] >= 55 and back["gone"] == 0 and back["mailboxes"] == 1
    now = account_state(platform, USER)
    for name in ("INBOX", "Old"):
        texts = {row[2]: row for row in now[name][1].values()}
        for uid, row in was[name][1].items():
            assert texts[row[2]] == row, (name, uid)  # flags, internal date, bytes
    assert min(set(now["INBOX"][1]) - set(was["INBOX"][1])) == 61  # no UID twice
    assert now["Old"][0] != was["Old"][0]
    # Nothing is left to bring back, and nothing comes twice.
    assert json.loads(platform.command("undelete", "--account", USER, "--json").stdout)["messages"] == 0
    assert account_state(platform, USER) == now


def test_undelete_after_hold_says_so(small):
    imap = small.imap(USER)
    append(imap, 100)
    expunge(imap, "1:90")
    compact(small)
    back = json.loads(small.command("undelete", "--account", USER, "--json", check=False).stdout)
    assert back["messages"] == 0


def test_erase(new_platform):
    platform = new_platform(start=False)
    platform.configure(segment_size="1M", compact_rate="0")
    platform.start()
    imap = platform.imap(USER)
    append(imap, 100)
    expunge(imap, "1:80")
    words = ("erase", "--account", USER, "--mailbox", "INBOX", "--uid", "1:70,90", "--why", "court order 17")
    with pytest.raises(CommandFailed) as failed:
        platform.command(*words)
    assert failed.value.code == 1 and "not confirmed" in failed.value.stderr
    assert "11 of the messages named are still in the mailbox" not in failed.value.stderr
    assert "1 of the messages named are still in the mailbox" in failed.value.stderr
    assert len(uids(imap)) == 20
    platform.command(*words, "--confirm", USER)
    ok(imap.noop())
    assert 90 not in uids(imap) and len(uids(imap)) == 19
    assert compact(platform)["dropped_bytes"] > 1 << 20
    back = json.loads(platform.command("undelete", "--account", USER, "--json").stdout)
    assert back["messages"] == 10  # 71 to 80: they were not named
    before = account_state(platform, USER)
    imap.logout()
    platform.stop()
    said, there = [], []
    for _, segment in live_files(platform):
        for record in segment.records():
            if record["type"] == "erase":
                said.append(record)
            if record["type"] == "message":
                there.append(record["uid"])
    assert [(r["uids"], r["why"]) for r in said] == [([[1, 70], [90, 90]], "court order 17")] and said[0]["who"]
    platform.command("index", "rebuild")
    platform.start()
    assert account_state(platform, USER) == before


def ruin(platform):
    """Overwrites a data block of each rewritten segment, on both units."""
    ruined = 0
    for unit in ("a", "b"):
        for path in (platform.folder / unit / "segments").glob("*.seg"):
            if path.name.split(".")[1] != "0000" and path.stat().st_size > 20 * 4096:
                with open(path, "r+b") as file:
                    file.seek(7 * 4096)
                    file.write(bytes(4096))
                ruined += 1
    assert ruined >= 2


@pytest.mark.parametrize("ruined", [False, True])
def test_raw_recovery_brings_nothing_back(small, tmp_path, ruined):
    """From all that lies on the disks, retired segments included, no expunged message returns; but what is live does,
    where the only sound copy of it is in a retired segment."""
    imap = small.imap(USER)
    append(imap, 150)
    expunge(imap, "11:120")
    assert compact(small)["retired_segments"] >= 2
    append(imap, 2)
    imap.logout()
    before = account_state(small, USER)
    small.stop()
    if ruined:
        ruin(small)
    out = tmp_path / "out"
    subprocess.run([PROGRAM, "recover", "scan", str(small.folder / "a"), str(small.folder / "b"), "--out", str(out)],
                   check=True, capture_output=True, timeout=120)
    done = subprocess.run([PROGRAM, "recover", "rebuild", str(out), "--json"], capture_output=True, timeout=120)
    report = json.loads(done.stdout)
    assert report["lost_lsns"] == 0, report
    text = (out / "sternpost.conf").read_text()
    rebuilt = Platform(out)
    for protocol in ("smtp", "lmtp", "imap"):
        text = text.replace(f"{protocol} = ", f"{protocol} = 127.0.0.1:0\n# ")
    rebuilt.config.write_text(text)
    rebuilt.start()
    try:
        now = account_state(rebuilt, USER)
        assert now["INBOX"][1] == before["INBOX"][1]
    finally:
        rebuilt.stop()
