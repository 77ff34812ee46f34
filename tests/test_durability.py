"""What was acknowledged is there: after kill -9 under load, and while a unit goes away under load."""
import json
import random
import shutil
import signal
import smtplib
import socket
import threading
import time

import pytest

from load import Load, check, delivered

SERVE_SECONDS = (0.05, 0.8)  # between a start and the next kill


def test_kill_under_load(new_platform, request):
    """kill -9 at random moments: every message that got 250 is there, whole, once, and no UID is used twice."""
    recipients = ["user@example.org", "second@example.org"]
    platform = new_platform(accounts=recipients, start=False)
    platform.configure(segment_size="4M")
    acknowledged, seen = {}, {address: {} for address in recipients}
    kills = request.config.getoption("--kills")
    for n in range(kills):
        platform.start()
        load = Load(platform, recipients)
        time.sleep(random.uniform(*SERVE_SECONDS))
        platform.kill()
        load.stop()
        acknowledged.update(load.acknowledged)
        if n % 10 < 9 and n + 1 < kills:
            continue
        platform.start()
        for address in recipients:
            found = delivered(platform, address)
            check(found, acknowledged)
            for uid, what in seen[address].items():
                assert found[uid] == what, f"UID {uid} was given to another message"
            seen[address] = found
        platform.kill()
    assert len(acknowledged) > kills


def test_index_made_again_agrees(new_platform):
    """After a kill, what the index rolls forward to is what a rebuild from the log gives."""
    platform = new_platform()
    load = Load(platform, ["user@example.org"])
    time.sleep(1)
    platform.kill()
    load.stop()
    platform.start()
    before = delivered(platform, "user@example.org")
    check(before, load.acknowledged)
    assert platform.stop() == 0
    platform.command("index", "rebuild")
    platform.start()
    assert delivered(platform, "user@example.org") == before


@pytest.mark.parametrize("how", ["removed", "emptied", "segments removed"])
def test_unit_goes_away_under_load(new_platform, how, figures):
    """A replica's directory is removed while mail comes in and is read: nothing fails, and there is a pause at most."""
    platform = new_platform()
    load = Load(platform, ["user@example.org"])
    failures, reads, stopping = [], [], threading.Event()

    def read():
        imap = platform.imap("user@example.org")
        while not stopping.is_set():
            start = time.monotonic()
            kind, data = imap.uid("FETCH", "1:20", "(BODY.PEEK[])")
            reads.append(time.monotonic() - start)
            if kind != "OK":
                failures.append(data)
        imap.logout()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(1)
    unit = platform.folder / "b"
    if how == "removed":
        remove(unit)
    elif how == "emptied":
        for entry in unit.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    else:
        shutil.rmtree(unit / "segments")
    taken = len(load.acknowledged)
    time.sleep(3)
    load.stop()
    stopping.set()
    reader.join(timeout=60)
    assert not load.refused and not failures
    assert len(load.acknowledged) > taken, "mail flows on"
    assert "event=unit.eject " in platform.log_text()
    figures(f"unit {how} under load", longest_delivery=f"{load.slowest:.2f} s", longest_read=f"{max(reads):.2f} s")
    print(f"longest pause: delivery {load.slowest:.3f} s, read {max(reads):.3f} s")
    check(delivered(platform, "user@example.org"), load.acknowledged)
    # The spare took its place, and both that are left agree about everything since.
    states = {unit["name"]: unit["state"] for unit in json.loads(platform.command("unit", "list", "--json").stdout)}
    assert states["c"] == "replica" and states["b"] != "replica"
    assert platform.stop() == 0
    platform.start()
    check(delivered(platform, "user@example.org"), load.acknowledged)


def remove(folder):
    """All of it, although the server goes on making files in it."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def test_one_unit_after_the_other(new_platform):
    """A unit is lost, the spare gets all that it had, and then the other is lost too: every message can still be read,
    from a unit that had none of them at first."""
    platform = new_platform(start=False)
    platform.configure(segment_size="2M")
    platform.start()
    load = Load(platform, ["user@example.org"])
    time.sleep(2)
    remove(platform.folder / "b")
    time.sleep(2)
    load.stop()
    assert not load.refused
    deadline = time.monotonic() + 60
    while True:
        [volume] = json.loads(platform.command("volume", "list", "--json").stdout)
        if volume["state"] == "healthy":
            break
        assert time.monotonic() < deadline, volume
        time.sleep(0.2)
    assert "event=unit.resilvered" in platform.log_text() and volume["thin_lsn"] == 0
    # A unit that is in use is not added; the lost one comes back empty, as a spare, when it is said to be a new one.
    for words, said in ((["c"], "in use already"), (["b"], "there is no unit in"), (["x"], "no such unit")):
        refusal = platform.command("unit", "add", *words, check=False)
        assert refusal.returncode == 1 and said in refusal.stderr, refusal.stderr
    (platform.folder / "b").mkdir()
    (platform.folder / "b" / "something").write_text("precious")
    assert "not empty" in platform.command("unit", "add", "b", "--init", check=False).stderr
    (platform.folder / "b" / "something").unlink()
    assert json.loads(platform.command("unit", "add", "b", "--init", "--json").stdout)["state"] == "spare"
    remove(platform.folder / "b")
    time.sleep(1)
    remove(platform.folder / "a")
    time.sleep(1)
    check(delivered(platform, "user@example.org"), load.acknowledged)
    # With one copy left it takes no more mail: that waits at its sender.
    with pytest.raises(smtplib.SMTPResponseException) as refused, platform.smtp() as client:
        client.sendmail("s@example.net", ["user@example.org"], b"Subject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 451


def test_stop_under_load(new_platform):
    """SIGTERM: what was being delivered is finished or refused with 421; nothing is half."""
    platform = new_platform()
    load = Load(platform, ["user@example.org"])
    time.sleep(0.5)
    assert platform.stop(signal.SIGTERM) == 0
    load.stop()
    assert all(code == 421 for code, _ in load.refused)
    platform.start()
    check(delivered(platform, "user@example.org"), load.acknowledged)


def test_the_port_is_free_again_at_once(platform):
    """A killed server's successor listens on the same ports."""
    port = platform.ports["smtp"]
    platform.kill()
    config = platform.config.read_text().replace("smtp = 127.0.0.1:0", f"smtp = 127.0.0.1:{port}")
    platform.config.write_text(config)
    platform.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        assert connection.recv(100).startswith(b"220 ")
