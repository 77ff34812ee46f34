"""No local copy is lost: programs that keep an account's mail look at it before, during and after a protection and a
recovery. Nothing is removed, nothing is downloaded a second time, and what is new comes once."""
import json
import os
import poplib
import re
import shutil
import subprocess
import threading
import time

import pytest

import format_reader
from copy_clients import Mbsync, OfflineImap, Pop3Access, Scripted
from disks import make_disks, move_units
from mailbox_state import account_state, mailbox_names, messages, uidvalidity
from platform_under_test import PROGRAM, Platform, message, ok
from thunderbird import Thunderbird

ADDRESS = "user@example.org"
BOXES = ("INBOX", "Archive", "Work/Deep")
EACH = 25


@pytest.fixture
def clients(tmp_path, request):
    made = [Scripted(tmp_path, ADDRESS)]
    for program in (Mbsync, OfflineImap):
        if shutil.which(program.program):
            made.append(program(tmp_path, ADDRESS))
    if request.config.getoption("--thunderbird"):
        made.append(Thunderbird(tmp_path, ADDRESS))
    yield made
    if isinstance(made[-1], Thunderbird):
        made[-1].close()


def look(clients, platform, fails=False):
    """Each looks once, all at the same time; returns what they hold. fails: they must have seen an error."""
    outcome = {}
    threads = [threading.Thread(target=lambda c=c: outcome.update({c: c.sync(platform.ports["imap"])})) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        assert outcome[client] is (not fails), (type(client).__name__, getattr(client, "output", ""))
    return {client: client.holdings() for client in clients}


def fill(platform):
    """Mail in each mailbox, in segments of its own; some flags, some expunges."""
    imap = platform.imap(ADDRESS, select=None)
    for box in BOXES:
        imap.create(box)
        for n in range(EACH):
            ok(imap.append(box, r"(\Seen)" if n % 3 else None, f'"{1 + n:02}-Mar-2003 10:20:30 +0100"',
                           message(f"{box} {n}", os.urandom(110_000).hex() + "\n")))
        ok(imap.select(box))
        ok(imap.store("2:3", "+FLAGS", r"(\Flagged)"))
        ok(imap.store("5", "+FLAGS", r"(\Deleted)"))
        ok(imap.expunge())
    for box in BOXES:  # the last of each stands in one segment with the others'
        ok(imap.append(box, None, None, message(f"{box} last")))
    imap.logout()


class Pop3Copies:
    """What a client keeps that looks by POP3: mail of the INBOX alone."""

    def __init__(self, tmp_path):
        self.client, self.before = Scripted(tmp_path, ADDRESS, Pop3Access), None

    def look(self, platform, fails=False):
        """Nothing that it had is removed or came again; what is new."""
        assert self.client.sync(platform.ports["pop3"]) is not fails
        before, now = self.before or {}, self.client.holdings()
        assert {key: value for key, value in now.items() if key in before} == before
        self.before = now
        return len(now) - len(before)


def new_mail(platform):
    with platform.smtp() as smtp:
        smtp.sendmail("a@example.net", [ADDRESS], message(f"new {time.monotonic_ns()}"))


def check_new(clients, before, platform):
    """One new message comes to each, and nothing else happens."""
    new_mail(platform)
    after = look(clients, platform)
    for client in clients:
        assert {k: v for k, v in after[client].items() if k in before[client]} == before[client], type(client).__name__
        assert len(after[client]) == len(before[client]) + 1, type(client).__name__
    return after


def sternpost(*words):
    run = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def rebuild(out, sources):
    """Raw recovery; the platform is started from the rebuilt units."""
    sternpost("recover", "scan", "--out", out, *sources)
    report = json.loads(sternpost("recover", "rebuild", out, "--json"))
    config = (out / "sternpost.conf").read_text()
    config = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", config)
    if "\npop3 = " not in config:
        config = config.replace("[listen]\n", "[listen]\npop3 = 127.0.0.1:0\n")
    (out / "sternpost.conf").write_text(config)
    return Platform(out).start(), report


def second_of(unit, box):
    """Of the segments that hold messages of that mailbox and no other's, the second: mail came before it and after."""
    found = 0
    for path in sorted((unit / "segments").glob("*.seg")):
        found += {line["path"] for line in format_reader.dump(str(path)) if line.get("type") == "message"} == {box}
        if found == 2:
            return path.name
    raise AssertionError("the mail lies otherwise than this test needs it")


def lose(platform, box, tmp_path):
    """Ruins that segment on both units. Returns their folders, and a copy of it that may be found some day."""
    units = [platform.folder / unit for unit in ("a", "b")]
    lost, found = second_of(units[0], box), tmp_path / "found.seg"
    shutil.copy(units[0] / "segments" / lost, found)
    for unit in units:
        (unit / "segments" / lost).write_bytes(os.urandom(1 << 20))
    return units, found


def test_protection(new_platform, clients, tmp_path):
    """A segment is lost on all units; what is left is rebuilt, one mailbox is protected; then a copy of it is found."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M")
    platform.start()
    fill(platform)
    state = account_state(platform, ADDRESS)
    before = look(clients, platform)
    assert all(len(held) == len(BOXES) * EACH for held in before.values())
    assert look(clients, platform) == before
    watcher = platform.imap(ADDRESS, select="Archive")
    assert platform.stop() == 0
    # An open session is told goodbye; it is not shown an empty mailbox.
    assert b"BYE" in watcher.readline()

    units, found = lose(platform, "Archive", tmp_path)
    guarded, report = rebuild(tmp_path / "guarded", units)
    try:
        assert {broken["path"] for broken in report["broken"] if broken["mailbox"]} == {"Archive"}
        imap = guarded.imap(ADDRESS, select=None)
        for answer in (imap.select("Archive"), imap.select("Archive", readonly=True), imap.status("Archive", "(MESSAGES)")):
            assert answer[0] == "NO" and b"[UNAVAILABLE]" in answer[1][0], answer
        assert b"Archive" in b"".join(ok(imap.list()))
        imap.logout()
        for _ in range(2):
            assert look(clients, guarded, fails=True) == before
        imap = guarded.imap(ADDRESS, select=None)
        for box in mailbox_names(imap):
            if box != "Archive":
                assert (uidvalidity(imap, box), messages(imap, box)) == state[box]
        imap.logout()
    finally:
        assert guarded.stop() == 0

    # With what was found all is there, at its old place.
    whole, report = rebuild(tmp_path / "whole", [*units, found])
    try:
        assert not report["broken"] and not report["bodiless"] and report["lost_lsns"] == 0
        assert account_state(whole, ADDRESS) == state
        assert look(clients, whole) == before
        after = check_new(clients, before, whole)
        assert look(clients, whole) == after
    finally:
        assert whole.stop() == 0


def test_protection_by_pop3(new_platform, tmp_path):
    """The INBOX loses a segment: who comes by POP3 is turned away, and never shown a shorter list; UIDLs survive."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M")
    platform.start()
    fill(platform)
    copies = Pop3Copies(tmp_path)
    assert copies.look(platform) == EACH and copies.look(platform) == 0
    assert platform.stop() == 0
    units, found = lose(platform, "INBOX", tmp_path)
    guarded, report = rebuild(tmp_path / "guarded", units)
    try:
        assert {broken["path"] for broken in report["broken"] if broken["mailbox"]} == {"INBOX"}
        for _ in range(2):
            assert copies.look(guarded, fails=True) == 0
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            guarded.pop3(ADDRESS)
    finally:
        assert guarded.stop() == 0
    whole, report = rebuild(tmp_path / "whole", [*units, found])
    try:
        assert not report["broken"] and copies.look(whole) == 0
        new_mail(whole)
        assert copies.look(whole) == 1 and copies.look(whole) == 0
    finally:
        assert whole.stop() == 0


def test_all_units_but_one_by_pop3(new_platform, tmp_path):
    platform = new_platform(start=False)
    platform.start()
    fill(platform)
    copies = Pop3Copies(tmp_path)
    assert copies.look(platform) == EACH
    for unit in ("b", "c"):
        (platform.folder / unit).rename(platform.folder / f"gone-{unit}")
        time.sleep(1)
    assert copies.look(platform) == 0
    platform.stop()
    port = platform.ports["pop3"]
    with pytest.raises(AssertionError, match="majority|units"):
        platform.start()
    platform.process = None
    platform.ports["pop3"] = port
    assert copies.look(platform, fails=True) == 0
    for unit in ("b", "c"):
        (platform.folder / f"gone-{unit}").rename(platform.folder / unit)
    platform.start()
    assert copies.look(platform) == 0
    new_mail(platform)
    assert copies.look(platform) == 1


def test_all_units_but_one(new_platform, clients):
    """Two of three units go while it runs; then it cannot be started without them; then they come back."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M")
    platform.start()
    fill(platform)
    before = look(clients, platform)
    session = platform.imap(ADDRESS)
    for unit in ("b", "c"):
        (platform.folder / unit).rename(platform.folder / f"gone-{unit}")
        time.sleep(1)
    assert look(clients, platform) == before
    # Writes are refused, and said to be; what is there is read on, in the session that was open, too.
    kind, answer = session.append("INBOX", None, None, message("refused"))
    assert kind == "NO" and b"[UNAVAILABLE]" in answer[0], answer
    assert len(ok(session.fetch("1:3", "(BODY.PEEK[])"))) >= 3
    session.logout()
    platform.stop()
    port = platform.ports["imap"]
    with pytest.raises(AssertionError, match="majority|units"):
        platform.start()
    platform.process = None
    platform.ports["imap"] = port
    assert look(clients, platform, fails=True) == before
    for unit in ("b", "c"):
        (platform.folder / f"gone-{unit}").rename(platform.folder / unit)
    platform.start()
    assert look(clients, platform) == before
    check_new(clients, before, platform)


def test_raw_recovery(tmp_path, clients):
    """File systems are made anew over both units' disks; the mail is rebuilt from the raw disks, and the service goes on
    from there."""
    disks = make_disks(tmp_path, "ab", 160)
    platform = Platform(tmp_path / "platform").init()
    try:
        move_units(platform, disks)
        platform.configure(segment_size="4M")
        platform.add_account(ADDRESS)
        platform.start()
        fill(platform)
        state = account_state(platform, ADDRESS)
        before = look(clients, platform)
        assert platform.stop() == 0
        for disk in disks:
            disk.umount()
            disk.mkfs()
        assert look(clients, platform, fails=True) == before
        rescue, report = rebuild(tmp_path / "rescue", [disk.path for disk in disks])
        try:
            assert not report["broken"] and not report["bodiless"]
            assert account_state(rescue, ADDRESS) == state
            assert look(clients, rescue) == before
            check_new(clients, before, rescue)
        finally:
            assert rescue.stop() == 0
    finally:
        platform.stop()
        for disk in disks:
            disk.let_go()
