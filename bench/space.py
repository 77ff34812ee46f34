"""What a byte of mail costs on disks: space, and bytes written to the device, each server on file systems of its own."""
import contextlib
import json
import os
import random
import re
import smtplib
import subprocess
import tarfile
import threading

import mail
from servers import DOMAIN, Dovecot, Failure, Sternpost, run

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.environ.get("SP_CORPUS", f"{HERE}/../../shared/corpus") + "/spamassassin.tar.xz"
USERS = CONNECTIONS = 20
MESSAGES = 1500
ALONE = 150           # messages that are delivered one after the other
RECIPIENTS = [1, 2, 3, 8], [70, 18, 8, 4]  # how many, how often
IMAGE_BYTES = 4 << 30
RIVALS = ["Dovecot Maildir", "Dovecot mdbox"]


class Disk:
    """An image with ext4, loop-mounted, that counts what is written to it."""

    def __init__(self, path, mount):
        self.path, self.mount, self.device, self.base = path, mount, None, 0

    def __enter__(self):
        with open(self.path, "wb") as file:
            file.truncate(IMAGE_BYTES)
        # What ext4 leaves for later by default would be counted as somebody's.
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", self.path)
        os.makedirs(self.mount)
        self.device = run("losetup", "--find", "--show", self.path).strip()
        try:
            run("mount", self.device, self.mount)
        except BaseException:
            run("losetup", "-d", self.device)
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.mount], check=False)
        subprocess.run(["losetup", "-d", self.device], check=False)
        os.unlink(self.path)

    def written(self):
        """Since the last call."""
        run("sync", "-f", self.mount)
        with open(f"/sys/block/{os.path.basename(self.device)}/stat") as file:
            now = int(file.read().split()[6]) * 512
        self.base, was = now, self.base
        return now - was


class OnDisks:
    """A server and the disks it is on: the first holds (a copy of) the mail."""

    def __init__(self, server, disks):
        self.server, self.disks, self.name = server, disks, server.name

    def written(self):
        return [disk.written() for disk in self.disks]

    def used(self, *options):
        return int(run("du", "-s", "-B1", *options, self.disks[0].mount).split()[0])


@contextlib.contextmanager
def sternpost_on_disks(bench):
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(Disk(f"{bench.folder}/{name}.img", f"{bench.folder}/{name}")) for name in ("a", "b", "rest")]
        server = Sternpost(f"{bench.folder}/rest/sternpost", bench.program)
        stack.enter_context(server)
        server.stop()
        for unit in ("a", "b"):
            run("cp", "-a", f"{server.folder}/{unit}", f"{bench.folder}/{unit}/unit")
            run("rm", "-r", f"{server.folder}/{unit}")
            text = open(server.conf).read()
            open(server.conf, "w").write(text.replace(f"path = {unit}\n", f"path = {bench.folder}/{unit}/unit\n"))
        server.serve()
        yield OnDisks(server, disks)


@contextlib.contextmanager
def dovecot_on_disk(bench, kind):
    with Disk(f"{bench.folder}/{kind}.img", f"{bench.folder}/{kind}") as disk, Dovecot(f"{disk.mount}/dovecot", kind) as server:
        yield OnDisks(server, [disk])


def messages(count):
    """Real mail where it is at hand, modelled mail otherwise; CRLF, with no line that a server may refuse."""
    if not os.path.exists(CORPUS):
        writer, rnd = mail.Writer(7), random.Random(7)
        return [writer.message(n, min(int(rnd.lognormvariate(8.2, 1)), 500_000)) for n in range(count)], "modelled mail"
    found = []
    with tarfile.open(CORPUS) as archive:
        for member in archive:
            if member.isfile() and len(found) < count:
                data = archive.extractfile(member).read()
                data = re.sub(rb"\AFrom [^\n]*\n", b"", data).replace(b"\r", b"").replace(b"\0", b"")
                if max(map(len, data.split(b"\n"))) < 990:
                    found.append(data.replace(b"\n", b"\r\n"))
    return found, "real mail (SpamAssassin's corpus)"


def in_parallel(work, items):
    """work(connection number, its share of the items) on each connection."""
    failures = []

    def guarded(n):
        try:
            work(n, items[n::CONNECTIONS])
        except Exception as error:  # told below, in the thread that waits
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Failure(f"{type(failures[0]).__name__}: {failures[0]}")


def deliver(port, letters):
    with smtplib.LMTP("127.0.0.1", port, local_hostname="client.example.net", timeout=120) as client:
        for data, users in letters:
            client.sendmail("s@peer.example", [f"user{user}@{DOMAIN}" for user in users], data)
            for _ in users[1:]:  # LMTP answers for each recipient
                code, why = client.getreply()
                if code != 250:
                    raise Failure(f"a delivery was refused: {code} {why.decode()}")


def read_and_tidy(client, rnd):
    """As a person does: one message after the other is read, a few are marked, three tenths thrown away, some at a time."""
    client.command("SELECT INBOX")
    count = client.exists
    stores = 0
    for n in range(1, count + 1):
        if rnd.random() < 0.6:
            client.command(f"STORE {n} +FLAGS.SILENT (\\Seen)")
            stores += 1
        if rnd.random() < 0.1:
            client.command(f"STORE {n} +FLAGS.SILENT (\\Flagged)")
            stores += 1
    return stores


def throw_away(client, rnd):
    client.command("SELECT INBOX")
    dead = sorted(rnd.sample(range(1, client.exists + 1), client.exists * 3 // 10), reverse=True)
    for start in range(0, len(dead), 8):
        client.command(f"STORE {','.join(map(str, dead[start:start + 8]))} +FLAGS.SILENT (\\Deleted)")
        client.command("EXPUNGE")
    return len(dead)


def space(bench, table, make_imap):
    if not os.path.exists("/dev/loop-control"):
        raise Failure("there are no loop devices")
    letters, kind = messages(MESSAGES)
    rnd = random.Random(1)
    letters = [(data, rnd.sample(range(1, USERS + 1), rnd.choices(*RECIPIENTS)[0])) for data in letters]
    alone, together = letters[:ALONE], letters[ALONE:]

    def size(some):
        return sum(len(data) * len(users) for data, users in some)
    one = sum(len(data) for data, _ in letters)
    table.note(f"{len(letters):,} messages of {kind}, {one / 1e6:.1f} MB; {size(letters) / one:.2f} recipients each, "
               f"{size(letters) / 1e6:.1f} MB of mail in all; {USERS} users")
    rows = {what: table.row(what, unit, more_is_better=False) for what, unit in (
        ("written, deliveries one by one", "x mail"), ("written, 20 connections deliver", "x mail"), ("written, one STORE of a flag", "KiB"),
        ("written, one message expunged", "KiB"), ("written in all", "x mail"), ("space after delivery, allocated", "x mail"),
        ("space after delivery, apparent", "x mail"), ("space after delivery, without what is prepared", "x mail"), ("space after expunges, allocated", "x mail left"),
        ("written, segment after segment", "x log"))}
    makers = [lambda: dovecot_on_disk(bench, "Maildir"), lambda: dovecot_on_disk(bench, "mdbox"), lambda: sternpost_on_disks(bench)]
    for maker in makers:
        with maker() as on:
            def load():
                bench.load("deliver", "lmtp", on.server.lmtp, CONNECTIONS, 8000, bench.pool(65536), CONNECTIONS)
            measure(on, rows, table, make_imap, load, alone, together, size)
    for what, row in rows.items():
        if "written" in what and "flag" not in what:
            row.claim("against the best peer", "Sternpost, each unit", RIVALS, 1)
    rows["written, segment after segment"].limit("with the zeros that a segment is prepared with", "Sternpost, each unit", 2.2)
    table.note("a STORE of a flag: Dovecot does not sync it")


def log_bytes(server):
    [volume] = json.loads(server.cli("volume", "list", "--json"))
    return volume["bytes_written"]


def turn_over(on, rows, table, load, mail_bytes):
    """What is prepared is a segment or two, however much mail there is; and what preparing writes shows when segments
    follow one another."""
    log = log_bytes(on.server)
    table.note(f"Sternpost: the log of all this is {log / mail_bytes:.2f} x mail; the rest of its space, {(on.used() - log) / 1e6:.0f} MB, is "
               "prepared for what comes; what was expunged stays until it is compacted")
    on.written()
    load()
    written = on.written()[0]
    rows["written, segment after segment"].add("Sternpost, each unit", written / (log_bytes(on.server) - log))


def measure(on, rows, table, make_imap, load, alone, together, size):
    ours = on.name == "Sternpost"
    name = "Sternpost, each unit" if ours else on.name
    on.server.add_users(USERS)
    # All mailboxes are made before anything is counted.
    deliver(on.server.lmtp, [(b"Subject: first\r\n\r\nfirst\r\n", [user]) for user in range(1, USERS + 1)])
    totals = [0] * len(on.disks)
    on.written()

    log = log_bytes(on.server) if ours else 0

    def take(what, divisor):
        nonlocal log
        written = on.written()
        for i, value in enumerate(written):
            totals[i] += value
        rows[what].add(name, written[0] / divisor)
        if ours:
            rows[what].add("Sternpost, index and all", written[2] / divisor)
            log, before = log_bytes(on.server), log
            rows[what].add("Sternpost, the log", (log - before) / divisor)
    deliver(on.server.lmtp, alone)
    take("written, deliveries one by one", size(alone))
    in_parallel(lambda n, share: deliver(on.server.lmtp, share), together)
    take("written, 20 connections deliver", size(together))
    mail_bytes = size(alone) + size(together)
    rows["space after delivery, allocated"].add(name, on.used() / mail_bytes)
    rows["space after delivery, apparent"].add(name, on.used("--apparent-size") / mail_bytes)
    rows["space after delivery, without what is prepared"].add(name, (log_bytes(on.server) if ours else on.used()) / mail_bytes)

    clients = [make_imap(on.server.imap, f"user{user}@{DOMAIN}") for user in range(1, USERS + 1)]
    counts = {}
    in_parallel(lambda n, _: counts.update({n: read_and_tidy(clients[n], random.Random(n))}), range(USERS))
    take("written, one STORE of a flag", sum(counts.values()) * 1024)
    in_parallel(lambda n, _: counts.update({n: throw_away(clients[n], random.Random(n))}), range(USERS))
    take("written, one message expunged", sum(counts.values()) * 1024)
    for client in clients:
        client.close()
    rows["written in all"].add(name, totals[0] / mail_bytes)
    if ours:
        rows["written in all"].add("Sternpost, index and all", totals[2] / mail_bytes)
    if on.name == "Dovecot mdbox":  # it gives back what was expunged only when it is told to
        for user in range(1, USERS + 1):
            run("doveadm", "-c", on.server.conf, "purge", "-u", f"user{user}")
        table.note("Dovecot mdbox was purged before the last row")
    rows["space after expunges, allocated"].add(name, on.used() / (mail_bytes * 0.7))
    if ours:
        turn_over(on, rows, table, load, mail_bytes)
