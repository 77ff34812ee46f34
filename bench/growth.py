"""What grows with a volume, and what must not: one volume, filled in steps, measured at each."""
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import time

from servers import DOMAIN, Failure, Sternpost, end_process, memory

ACCOUNTS = 100
SMALL = ACCOUNTS + 1  # the account with a mailbox that stays small
SMALL_MESSAGES = 10
TIMES = 300


def fetcher(imap):
    """The benchmarks' little IMAP, for answers with literals in them."""
    class Fetcher(imap):
        def answer(self):
            while True:
                line = self.file.readline()
                if not line:
                    raise Failure("the IMAP server closed the connection")
                if literal := re.search(rb"\{(\d+)\}\r\n$", line):
                    self.file.read(int(literal[1]))
                elif line.startswith((b"a ", b"+")):
                    if line.startswith(b"a ") and not line.startswith(b"a OK"):
                        raise Failure(f"IMAP: {line.decode().strip()}")
                    return
    return Fetcher


def median_ms(client, commands):
    """Of each command's time from its first octet to the answer's last."""
    took = []
    for command in commands:
        start = time.perf_counter()
        client.command(command)
        took.append(1000 * (time.perf_counter() - start))
    return statistics.median(took)


def greeting(server, limit=1800):
    """Seconds from starting the program until IMAP greets."""
    start = time.monotonic()
    with open(server.log, "ab") as log:
        server.process = subprocess.Popen([server.program, "-c", server.conf, "serve"], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=log)
    while time.monotonic() - start < limit and server.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.imap), 1) as s:
                s.settimeout(5)
                if s.recv(1):
                    return time.monotonic() - start
        except OSError:
            time.sleep(0.002)
    raise Failure(f"it did not start:\n{open(server.log, errors='replace').read()[-1500:]}")


def index_folder(server):
    return f"{server.folder}/state/index-main" if os.path.isdir(f"{server.folder}/state") else next(
        where for where, _, names in os.walk(server.folder) if "data.mdb" in names)


def cut_power(server):
    """As far as a start can tell: the server was killed, and the machine is in another boot."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.process = None
    mark = f"{index_folder(server)}/mark"
    text = open(mark).read()
    if "boot " not in text:
        raise Failure(f"{mark} does not say in which boot the index was opened")
    open(mark, "w").write(re.sub("boot [0-9a-f-]+", "boot 00000000-0000-0000-0000-000000000000", text))


def said(server, event):
    return open(server.log, errors="replace").read().count(f"event={event}")


def log_bytes(server):
    folder = f"{server.folder}/a/segments"
    return sum(os.path.getsize(f"{folder}/{name}") for name in os.listdir(folder) if name.endswith(".seg"))


def rss_mib(server):
    """Anonymous memory; the map of the index is the kernel's to drop."""
    return memory(server.process.pid)[1] / 1024


def fill(bench, server, held, size, messages):
    """Up to `messages`, the last of them timed apart, so that a rate is that of a volume of this size."""
    pool, timed = bench.pool(size), min(max(messages // 20, 2000), 20000)
    if messages - timed > held:
        bench.load("deliver", "lmtp", server.lmtp, 20, messages - timed - held, pool, ACCOUNTS)
        held = messages - timed
    rates = []
    for part in range(5):
        got = bench.load("deliver", "lmtp", server.lmtp, 20, timed // 5, pool, ACCOUNTS)
        rates.append(got["messages"] / got["seconds"])
    return held + timed // 5 * 5, statistics.median(rates)


def restart(server):
    end_process(server.process, 120)
    return greeting(server)


def growth(bench, table, imap):
    sizes, size, imap = bench.options.sizes, bench.options.size, fetcher(imap)
    rows = {key: table.row(what, unit, more_is_better=more) for key, what, unit, more in (
        ("deliver", "LMTP delivery, 20 connections", "messages/s", True),
        ("select", f"SELECT of a mailbox of {SMALL_MESSAGES}", "ms", False),
        ("fetch", "FETCH of one body there", "ms", False),
        ("fetch_any", "FETCH of one body anywhere", "ms", False),
        ("clean", "clean start", "s", False),
        ("power", "start after a power cut", "s", False),
        ("rebuild", "start with a rebuild", "s", False),
        ("speed", "rebuild, MB of log", "MB/s", True),
        ("rss", "memory after the filling", "MiB", False),
        ("rss_rebuild", "memory after the rebuild", "MiB", False),
        ("log", "log of one unit", "MB", False),
        ("index", "index", "MB", False))}
    names, held = [f"{n:,}" for n in sizes], 0
    with Sternpost(f"{bench.folder}/sternpost", bench.program) as server:
        server.add_users(SMALL)
        client = imap(server.imap, f"user{SMALL}@{DOMAIN}")
        for _ in range(SMALL_MESSAGES):
            client.append("INBOX", b"Subject: small\r\n\r\n" + b"A line of text.\r\n" * 200)
        client.close()
        for name, messages in zip(names, sizes):
            held, rate = fill(bench, server, held, size, messages)
            rows["deliver"].add(name, rate)
            rows["rss"].add(name, rss_mib(server))
            small = imap(server.imap, f"user{SMALL}@{DOMAIN}")
            rows["select"].add(name, median_ms(small, ["SELECT INBOX"] * TIMES))
            rows["fetch"].add(name, median_ms(small, ["FETCH 3 BODY.PEEK[]"] * TIMES))
            small.close()
            choose, large = random.Random(1), imap(server.imap, f"user1@{DOMAIN}")
            large.command("SELECT INBOX")
            here = messages // ACCOUNTS
            some = [f"FETCH {choose.randint(1, here)} BODY.PEEK[]" for _ in range(100)]
            median_ms(large, some)  # the log is written around the page cache: what is timed has been read once at every size
            rows["fetch_any"].add(name, median_ms(large, some * (TIMES // 100)))
            large.close()
            for _ in range(bench.options.rounds):
                rows["clean"].add(name, restart(server))
            # Mail after the last checkpoint is rolled forward.
            bench.load("deliver", "lmtp", server.lmtp, 20, 1000, bench.pool(size), ACCOUNTS)
            held += 1000
            restored = said(server, "index.restored")
            cut_power(server)
            rows["power"].add(name, greeting(server))
            if said(server, "index.restored") != restored + 1:
                raise Failure("the index was not put back to its checkpoint")
            end_process(server.process, 120)
            folder = index_folder(server)
            for file in os.listdir(folder):
                os.unlink(f"{folder}/{file}")
            rows["rebuild"].add(name, greeting(server))
            octets, ms = re.findall(r"event=index.rebuilt .* bytes=(\d+) ms=(\d+)", open(server.log, errors="replace").read())[-1]
            rows["speed"].add(name, int(octets) / 1000 / max(int(ms), 1))
            rows["rss_rebuild"].add(name, rss_mib(server))
            rows["log"].add(name, log_bytes(server) / 1e6)
            rows["index"].add(name, os.path.getsize(f"{folder}/data.mdb") / 1e6)
    if len(names) > 1:
        for key in ("deliver", "select", "fetch", "fetch_any", "clean", "power", "speed"):
            rows[key].claim("does not grow with the volume", names[-1], [names[0]], 0.8)
    table.note(f"messages of {size} octets in {ACCOUNTS} mailboxes, and a small one besides; each body is stored once; "
               "all is in the page cache as far as it fits; the power cut is a kill, and a mark of another boot")
