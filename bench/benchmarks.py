"""What is measured, and what is claimed of it. Each function fills a table; servers run side by side and take turns."""
import contextlib
import json
import os
import random
import re
import resource
import shutil
import socket
import ssl
import subprocess
import time

import growth
import mail
from cyrus import Cyrus
from servers import DOMAIN, PASSWORD, Dovecot, Failure, Postfix, Sink, Sternpost, memory, run
from space import space as measure_space

OURS = "Sternpost"
CONNECTIONS = 20


class Bench:
    """Where a benchmark works, and with what."""

    def __init__(self, top, load, program, options):
        self.top, self.load_program, self.program, self.options = top, load, program, options
        self.made, self.cyrus, self.folder = {}, None, None

    def load(self, *args):
        return json.loads(run(self.load_program, *args))

    def pool(self, size):
        """2,000 messages of 4 KiB, or as many octets of larger ones; made once a run."""
        if size not in self.made:
            self.made[size] = mail.pool(f"{self.top}/pool-{size}", size, max(2000 * 4096 // size, 200))
        return self.made[size]

    def maildir(self, count):
        key = ("maildir", count)
        if key not in self.made:
            self.made[key] = mail.maildir(f"{self.top}/maildir-{count}", 4096, count)
        return self.made[key]

    @contextlib.contextmanager
    def place(self, name):
        """A folder for one benchmark."""
        self.folder = f"{self.top}/{name}"
        os.mkdir(self.folder)
        try:
            yield
        finally:
            if not self.options.keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def sternpost(self):
        return Sternpost(f"{self.folder}/sternpost", self.program)

    @contextlib.contextmanager
    def servers(self, *makers):
        """Starts them all, and ends them, last first."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(maker) for maker in makers]

    def make_mailboxes(self, server):
        """One message to all, alone: Dovecot's LMTP dies now and then when two deliveries make the same mailbox."""
        server.add_users(CONNECTIONS)
        self.load("deliver", "lmtp", server.lmtp, 1, 1, self.pool(4096), CONNECTIONS, CONNECTIONS)

    def peers(self):
        return [Dovecot(f"{self.folder}/dovecot-maildir", "Maildir"), Dovecot(f"{self.folder}/dovecot-mdbox", "mdbox"),
                *([Cyrus(f"{self.folder}/cyrus", *self.cyrus)] if self.cyrus else [])]


# ---- delivery ----

def source(protocol, port, total, size):
    """Postfix's smtp-source, one process for each connection and recipient; seconds until the last is answered."""
    flags = ["-L"] if protocol == "lmtp" else []
    start = time.monotonic()
    processes = [subprocess.Popen(["smtp-source", *flags, "-d", "-s", "1", "-m", str(total // CONNECTIONS), "-l", str(size),
                                   "-f", "s@peer.example", "-t", f"user{i + 1}@{DOMAIN}", f"127.0.0.1:{port}"],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for i in range(CONNECTIONS)]
    errors = [p.communicate()[1] for p in processes]
    took = time.monotonic() - start
    if any(p.returncode for p in processes):
        raise Failure(f"smtp-source: {next(filter(None, errors), 'failed')}")
    return took


def deliver_table(bench, table, give, loads, goals):
    """give(protocol, port, total, size) loads a server and returns the seconds it took."""
    with bench.servers(*bench.peers(), bench.sternpost(), Sink(bench.folder, True), Sink(bench.folder, False)) as started:
        *peers, ours, lmtp_sink, smtp_sink = started
        with contextlib.ExitStack() as more:
            postfix = more.enter_context(Postfix(f"{bench.folder}/postfix", peers[0].lmtp))
            for server in (*peers, ours):
                bench.make_mailboxes(server)

            def plain(server, protocol):
                return lambda total, size: {server_name(server, protocol): total / give(protocol, getattr(server, protocol), total, size)}

            def server_name(server, protocol):
                return f"{server.name} {protocol.upper()}" if server in (ours, lmtp_sink, smtp_sink) else server.name

            def through_postfix(total, size):
                start = time.monotonic()
                accepted = give("smtp", postfix.smtp, total, size)
                while postfix.waiting():
                    time.sleep(0.02)
                    if time.monotonic() - start > 120:
                        raise Failure("Postfix did not empty its queue in two minutes")
                return {"Postfix accepting": total / accepted, postfix.name: total / (time.monotonic() - start)}

            takers = [*(plain(p, "lmtp") for p in peers), through_postfix, plain(ours, "lmtp"), plain(ours, "smtp"),
                      plain(lmtp_sink, "lmtp"), plain(smtp_sink, "smtp")]
            for size, label in loads:
                row = table.row(label, "messages/s")
                totals = []
                for take in takers:
                    rate = min(take(CONNECTIONS * 10, size).values())
                    totals.append(max(int(rate * bench.options.seconds) // CONNECTIONS, 5) * CONNECTIONS)
                for _ in range(bench.options.rounds):
                    for take, total in zip(takers, totals):
                        for name, rate in take(total, size).items():
                            row.add(name, rate)
                lmtp, smtp = f"{OURS} LMTP", f"{OURS} SMTP"
                for name, sink in ((lmtp, "smtp-sink LMTP"), (smtp, "smtp-sink SMTP")):
                    row.claim(f"{name} against the best LMTP peer", name, [p.name for p in peers], goals["peers"][size])
                    if goals["sink"]:
                        row.claim(f"{name} against what the load can give", name, [sink], goals["sink"])
                row.claim(f"{smtp} against Postfix delivering", smtp, [postfix.name], 10)


def one_source(protocol, port, total, size):
    """The same load as one smtp-source gives it, which is all to one mailbox: it takes less of the machine."""
    start = time.monotonic()
    run("smtp-source", *(["-L"] if protocol == "lmtp" else []), "-d", "-s", str(CONNECTIONS), "-m", str(total), "-l", str(size),
        "-f", "s@peer.example", "-t", f"user1@{DOMAIN}", f"127.0.0.1:{port}")
    return time.monotonic() - start


def one_source_rows(bench, table):
    with bench.servers(bench.sternpost(), Sink(bench.folder, True), Sink(bench.folder, False)) as (ours, lmtp_sink, smtp_sink):
        bench.make_mailboxes(ours)
        for size, label, total in ((4096, "4 KiB, one smtp-source", 20000), (65536, "64 KiB, one smtp-source", 4000)):
            row = table.row(label, "messages/s")
            for _ in range(bench.options.rounds):
                for server, protocol in ((ours, "lmtp"), (lmtp_sink, "lmtp"), (ours, "smtp"), (smtp_sink, "smtp")):
                    took = one_source(protocol, getattr(server, protocol), total, size)
                    row.add(f"{server.name} {protocol.upper()}", total / took)
            for protocol in ("LMTP", "SMTP"):
                row.claim(f"{OURS} {protocol} against what the load can give", f"{OURS} {protocol}", [f"smtp-sink {protocol}"], 0.5)


def deliver(bench, table):
    deliver_table(bench, table, source, [(4096, "4 KiB"), (65536, "64 KiB")], {"peers": {4096: 5, 65536: 2}, "sink": 0.5})
    shutil.rmtree(f"{bench.folder}/sternpost", ignore_errors=True)
    one_source_rows(bench, table)
    table.note("smtp-source repeats one line of text; deliver-mail has bodies modelled on real mail")


def deliver_mail(bench, table):
    def give(protocol, port, total, size):
        return bench.load("deliver", protocol, port, CONNECTIONS, total, bench.pool(size), CONNECTIONS)["seconds"]

    deliver_table(bench, table, give, [(4096, "mail of 4 KiB"), (65536, "mail of 64 KiB")], {"peers": {4096: 5, 65536: 2}, "sink": None})
    table.note("each message differs; envelope commands are pipelined, as mail servers do")


# ---- IMAP ----

COMMANDS = [
    ("FETCH flags", ["FETCH 1:* (UID FLAGS)"], 1),
    ("FETCH headers", ["FETCH 1:* (BODY.PEEK[HEADER])"], 1),
    ("FETCH envelopes", ["FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"], 1),
    ("FETCH three header fields", ["FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])"], 1),
    ("FETCH bodystructure", ["FETCH 1:* (BODYSTRUCTURE)"], 1),
    ("FETCH bodies", ["FETCH 1:* (BODY.PEEK[])"], 1.5),
    ("SEARCH UNSEEN", ["SEARCH UNSEEN"], 1),
    ("SEARCH SUBJECT", ['SEARCH SUBJECT "number 777"'], 1),
    ("SEARCH BODY", [f"SEARCH BODY {mail.NEEDLE}"], 1),
    ("SEARCH TEXT", [f"SEARCH TEXT {mail.NEEDLE}"], 1),
    ("STORE on all", ["STORE 1:* +FLAGS (\\Seen)", "STORE 1:* -FLAGS (\\Seen)"], 1),
    ("STORE on all, silent", ["STORE 1:* +FLAGS.SILENT (\\Seen)", "STORE 1:* -FLAGS.SILENT (\\Seen)"], 1),
    ("SORT SUBJECT", ["SORT (SUBJECT) UTF-8 ALL"], 1),
    ("THREAD REFERENCES", ["THREAD REFERENCES UTF-8 ALL"], 1),
]
SHOWN_FIRST = ("FETCH headers", "FETCH envelopes", "SEARCH SUBJECT", "SEARCH BODY", "SEARCH TEXT", "SORT SUBJECT",
               "THREAD REFERENCES")


def random_bodies(count):
    """FETCH of 1,000 messages here and there, as a client does that fills gaps of its cache."""
    some = sorted(random.Random(4).sample(range(1, count + 1), min(count, 1000)))
    return ("FETCH 1,000 random bodies", [f"FETCH {','.join(map(str, some))} (BODY.PEEK[])"], 1)


class Imap:
    """The little IMAP that appending and idling need."""

    def __init__(self, port, user, timeout=60, tls=None):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")
        self.exists = None
        self.file.readline()
        self.command(f"LOGIN {user} {PASSWORD}")

    def answer(self):
        while True:
            line = self.file.readline()
            if not line:
                raise Failure("the IMAP server closed the connection")
            if line.startswith(b"* ") and line.endswith(b" EXISTS\r\n"):
                self.exists = int(line.split()[1])
            if line.startswith(b"a "):
                if not line.startswith(b"a OK"):
                    raise Failure(f"IMAP: {line.decode().strip()}")
                return
            if line.startswith(b"+"):
                return

    def command(self, text):
        self.sock.sendall(f"a {text}\r\n".encode())
        self.answer()

    def append(self, mailbox, message):
        self.sock.sendall(b"a APPEND %s {%d}\r\n" % (mailbox.encode(), len(message)))
        self.answer()
        self.sock.sendall(message + b"\r\n")
        self.answer()

    def close(self):
        self.file.close()
        self.sock.close()


def supports(port, word):
    with socket.create_connection(("127.0.0.1", port), 10) as s, s.makefile("rb") as lines:
        lines.readline()
        s.sendall(f"a LOGIN user1@{DOMAIN} {PASSWORD}\r\nb CAPABILITY\r\n".encode())
        text = b""
        for line in lines:
            text += line
            if line.startswith(b"b "):
                return word.encode() in text.upper()
    return False


def imap(bench, table):
    count = bench.options.messages
    maildir = bench.maildir(count)
    with bench.servers(*bench.peers(), bench.sternpost()) as servers:
        *peers, ours = servers
        rivals = [p.name for p in peers]
        for server in servers:
            server.add_users(1)
            server.fill(1, maildir)
            run("sync")
        # Whoever is measured after a first look at its mailbox has it in the page cache, all alike.
        for server in servers:
            size = bench.load("command", server.imap, f"user1@{DOMAIN}", PASSWORD, "INBOX", "FETCH 1:* (UID)")
            if size["octets"] < count * 10:
                raise Failure(f"{server.name} does not hold {count} messages")
        select_row(bench, table, servers, rivals)
        for what, commands, at_least in [*COMMANDS, random_bodies(count)]:
            word = what.split()[0]
            who = [s for s in servers if word not in ("SORT", "THREAD") or supports(s.imap, word)]
            for server in servers:
                if server not in who:
                    table.note(f"{server.name} does not offer {word}")
            first = table.row(f"{what}, first", "s", more_is_better=False) if what in SHOWN_FIRST else None
            row = table.row(what + (", again" if first else ""), "s", more_is_better=False)
            octets = {}
            for turn in range(bench.options.rounds + 1):
                for server in who:
                    got = bench.load("command", server.imap, f"user1@{DOMAIN}", PASSWORD, "INBOX", commands[turn % len(commands)])
                    octets[server.name] = got["octets"]
                    if turn == 0 and first:
                        first.add(server.name, got["seconds"])
                    elif turn > 0 or len(commands) > 1:
                        row.add(server.name, got["seconds"])
            if first:
                first.claim("against the best peer", OURS, rivals, at_least)
            row.claim("against the best peer", OURS, rivals, at_least)
            if what == "FETCH bodies":
                table.note("bodies: " + ", ".join(f"{s.name} {octets[s.name] / 1e6 / row.median(s.name):.0f} MB/s" for s in who))
            counts = sorted(octets.values())
            if counts[-1] > counts[0] * 1.2 + 1000:
                table.note(f"{what}: answers differ in length: " + ", ".join(f"{n} {o:,}" for n, o in octets.items()))
        copy_row(bench, table, servers, rivals, min(count, 10000))
        append_row(bench, table, servers, rivals)


def select_row(bench, table, servers, rivals):
    row = table.row("SELECT", "s", more_is_better=False)
    for _ in range(bench.options.rounds + 2):
        for server in servers:
            row.add(server.name, bench.load("command", server.imap, f"user1@{DOMAIN}", PASSWORD, "INBOX", "NOOP")["select"])
    row.claim("against the best peer", OURS, rivals, 1)


def copy_row(bench, table, servers, rivals, count):
    row = table.row(f"COPY of {count:,}", "s", more_is_better=False)
    for turn in range(bench.options.rounds):
        for server in servers:
            client = Imap(server.imap, f"user1@{DOMAIN}")
            client.command(f"CREATE copy{turn}")
            client.close()
            got = bench.load("command", server.imap, f"user1@{DOMAIN}", PASSWORD, "INBOX", f"COPY 1:{count} copy{turn}")
            row.add(server.name, got["seconds"])
    row.claim("against the best peer", OURS, rivals, 1)


def append_row(bench, table, servers, rivals):
    writer = mail.Writer(3)
    messages = [writer.message(i, 4096) for i in range(200)]
    row = table.row("APPEND one at a time", "messages/s")
    clients = {s.name: Imap(s.imap, f"user1@{DOMAIN}") for s in servers}
    for client in clients.values():
        client.command("CREATE sent")
        client.append("sent", messages[0])
    for _ in range(bench.options.rounds):
        for name, client in clients.items():
            start = time.monotonic()
            for message in messages:
                client.append("sent", message)
            row.add(name, len(messages) / (time.monotonic() - start))
    for client in clients.values():
        client.close()
    row.claim("against the best peer", OURS, rivals, 1)


def login(bench, table):
    with bench.servers(*bench.peers(), bench.sternpost()) as servers:
        *peers, ours = servers
        rivals = [p.name for p in peers]
        for server in servers:
            bench.make_mailboxes(server)
            bench.load("deliver", "lmtp", server.lmtp, CONNECTIONS, 100, bench.pool(4096), CONNECTIONS, CONNECTIONS)
        start = time.monotonic()
        Imap(ours.imap, f"user1@{DOMAIN}").close()
        table.note(f"{OURS}: the first login of an account, whose password is checked at its full cost, took "
                   f"{1000 * (time.monotonic() - start):.0f} ms; those measured had logged in before")
        for server in servers:
            bench.load("login", server.imap, CONNECTIONS, CONNECTIONS, PASSWORD, 1)
        for what, label, at_least in (("login", "LOGIN, SELECT, LOGOUT", 5), ("noop", "NOOP", 1)):
            row = table.row(f"{label}, {CONNECTIONS} clients", "/s")
            for _ in range(bench.options.rounds):
                for server in servers:
                    got = bench.load(what, server.imap, CONNECTIONS, CONNECTIONS, PASSWORD, max(int(bench.options.seconds), 1))
                    row.add(server.name, got["count"] / got["seconds"])
            row.claim("against the best peer", OURS, rivals, at_least)
    table.note("INBOX of 100 messages; the load is one process; the peers take any password without a check of its hash")


def any_certificate():
    """TLS as clients speak it, but for asking whose certificate it is: the servers here have made theirs themselves."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def hold_idle(server, users, connections, tls=None):
    held = []
    for k in range(connections):
        client = Imap(server.imaps if tls else server.imap, f"user{k % users + 1}@{DOMAIN}", tls=tls)
        client.command("SELECT INBOX")
        client.command("IDLE")
        held.append(client)
    return held


def idle_rows(bench, rows, server, name, users, steps, tls):
    """Memory of each of so many connections, in steps, more than before the first of them."""
    for client in hold_idle(server, users, 2, tls):  # what the first connection makes is not what the others cost
        client.close()
    time.sleep(1)
    before, held = memory(server.process.pid), []
    for step in dict.fromkeys(steps):
        held += hold_idle(server, users, step - len(held), tls) if step > len(held) else []
        time.sleep(5)
        after = memory(server.process.pid)
        label = name if step == steps[-1] else f"{name}, {step} connections"
        for row, k in zip(rows, (0, 1)):
            row.add(label, (after[k] - before[k]) / len(held))
    for client in held:
        client.close()
    time.sleep(2)


def idle(bench, table):
    options, count = bench.options, bench.options.messages
    accounts, connections = options.idle_accounts, options.idle_connections
    with bench.servers(Dovecot(f"{bench.folder}/dovecot-maildir", "Maildir"), bench.sternpost()) as (dovecot, ours):
        dovecot.fill(1, bench.maildir(count))
        ours.add_users(accounts)
        got = bench.load("deliver", "lmtp", ours.lmtp, CONNECTIONS, count, bench.pool(4096), accounts, accounts)
        table.note(f"{accounts} accounts of {count:,} messages, delivered to all at once: bodies are shared "
                   f"({count * accounts / got['seconds']:,.0f} deliveries/s)")
        for tls in (None, any_certificate()):
            # A fresh start, so that nothing of what was before is counted as there already.
            ours.stop()
            ours.serve()
            what = "with TLS" if tls else "no TLS"
            rows = (table.row(f"PSS of an idle connection, {what}", "KiB", more_is_better=False),
                    table.row(f"of it anonymous, {what}", "KiB", more_is_better=False))
            idle_rows(bench, rows, ours, OURS, accounts, (accounts, connections), tls)
            idle_rows(bench, rows, dovecot, "Dovecot Maildir", 1, (100,), tls)
            if not tls:
                for label in dict.fromkeys((OURS, f"{OURS}, {accounts} connections" if accounts != connections else OURS)):
                    rows[0].limit(label, label, 10)
            rows[0].claim("against Dovecot", OURS, ["Dovecot Maildir"], 50)
    table.note(f"{OURS}: {connections} connections, and one for each of {accounts} accounts; "
               f"Dovecot: 100 connections to one account of {count:,} messages; the kernel's sockets are not counted")


# ---- recover ----

def image_of(platform, path, megabytes, noise_bytes):
    """What a lost disk might hold: the segments of both units, with so many octets that mean nothing after each 8 MiB of
    them (None: nothing else). Returns its size."""
    with open(path, "wb") as out:
        noise, turn = os.urandom(8 << 20), 0
        while noise_bytes is None and out.tell() < megabytes << 20:
            out.write(noise)
        segments = sorted(f"{where}/{name}" for unit in ("a", "b") for where, _, names in os.walk(f"{platform.folder}/{unit}") for name in names
                          if os.path.getsize(f"{where}/{name}") >= 1 << 20)
        if not segments:
            raise Failure(f"no segments under {platform.folder}/a")
        while out.tell() < megabytes << 20:
            with open(segments[turn % len(segments)], "rb") as segment:
                while out.tell() < megabytes << 20 and (piece := segment.read(8 << 20)):
                    out.write(piece)
                    for _ in range(noise_bytes >> 23):
                        out.write(noise)
            turn += 1
        out.flush()
        os.fsync(out.fileno())
        return out.tell()


def forget(path):
    """Out of the page cache with it."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def recover(bench, table):
    with bench.servers(bench.sternpost()) as (ours,):
        ours.add_users(CONNECTIONS)
        bench.load("deliver", "lmtp", ours.lmtp, CONNECTIONS, 40000, bench.pool(4096), CONNECTIONS)
        bench.load("deliver", "lmtp", ours.lmtp, CONNECTIONS, 4000, bench.pool(65536), CONNECTIONS)
        ours.stop()
        for share, noise_bytes in (("no blocks", None), ("a tenth of it blocks", 72 << 20), ("blocks throughout", 0)):
            scan_rows(bench, table, ours, share, noise_bytes)
    table.note("the blocks that are found are written to another folder of the same disk, and synced")


def scan_rows(bench, table, ours, share, noise_bytes):
    image, out = f"{bench.folder}/image", f"{bench.folder}/scan"
    size = image_of(ours, image, bench.options.image_mb, noise_bytes)
    for kind in ("cached", "uncached"):
        row = table.row(f"{kind} file of {size >> 20:,} MiB, {share}", "MB/s")
        for _ in range(bench.options.rounds):
            ways = ("buffered", "direct") if kind == "uncached" else ("buffered",)
            for way in (*ways, "scan"):
                if kind == "uncached":
                    forget(image)
                else:
                    bench.load("read", image)
                start = time.monotonic()
                if way == "scan":
                    ours.cli("recover", "scan", "--out", out, image, check=share != "no blocks")
                    seconds = time.monotonic() - start
                    shutil.rmtree(out)
                else:
                    seconds = bench.load("read", image, way)["seconds"]
                row.add(OURS if way == "scan" else f"read {way}", size / 1e6 / seconds)
        row.claim("recover scan against only reading", OURS, ["read buffered", "read direct"], 0.8)


def space(bench, table):
    measure_space(bench, table, Imap)


ALL = {
    "deliver": (deliver, "accept and deliver, 20 connections, smtp-source"),
    "deliver-mail": (deliver_mail, "accept and deliver, 20 connections, bodies modelled on real mail"),
    "imap": (imap, "single commands on a mailbox of 20,000 messages of 4 KiB, warm"),
    "login": (login, "LOGIN, SELECT, LOGOUT, and NOOP, 20 clients"),
    "idle": (idle, "memory of idle IDLE connections, with and without TLS"),
    "growth": (lambda bench, table: growth.growth(bench, table, Imap), "what grows with the volume, and what does not"),
    "space": (space, "bytes on disk, and bytes written to the device, for each byte of mail; ext4, syncs included"),
    "recover": (recover, "recover scan of a raw image against reading it"),
}


def raise_limits():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
