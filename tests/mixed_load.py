"""Ten connections that deliver and ten that use IMAP, at once, and remember what they were told: a model of what must be
there. Pauses are measured by what each had to wait for an answer."""
import base64
import hashlib
import imaplib
import random
import re
import smtplib
import threading
import time

from load import delivered
from platform_under_test import PASSWORD, message, ok

DELIVERING = READING = 10
KEPT = 12  # messages that a reader keeps before it expunges some


def digest(data):
    return hashlib.sha256(data).digest()


def mail(rnd, mark, most=8000):
    # What zstd makes no smaller, as most of what is large in mail.
    size = 300_000 if rnd.random() < 0.01 else rnd.randrange(10, most)
    return message(mark, base64.encodebytes(rnd.randbytes(size * 3 // 4)).decode())


class Refused(Exception):
    """The server said NO: nothing happened, or nobody knows."""


class Reader:
    """One IMAP connection at a time, with a mailbox of its own."""

    def __init__(self, load, number):
        self.load, self.box = load, f"work-{number}"
        self.rnd = random.Random(f"{number} {time.time_ns()}")
        self.imap, self.count = None, 0
        self.held = {}  # uid: [digest, flags]; flags None: whether a change of them was carried out is not known
        self.expunged, self.unsure = set(), set()

    def timed(self, what, command, *words):
        start = time.monotonic()
        kind, data = command(*words)
        self.load.waited(what, time.monotonic() - start)
        if kind != "OK":
            self.load.refuse(what, data)
            raise Refused
        return data

    def connect(self):
        self.imap = self.load.platform.imap(self.load.address, PASSWORD, select=None)
        self.timed("IMAP", self.imap.select, self.box)

    def append(self):
        self.count += 1
        data = mail(self.rnd, f"{self.box}-{self.count}")
        [answer] = self.timed("IMAP", self.imap.append, self.box, None, None, data)
        uid = int(re.search(rb"APPENDUID \d+ (\d+)", answer).group(1))
        assert uid not in self.held and uid not in self.expunged, "a UID is given twice"
        self.held[uid] = [digest(data), set()]

    def fetch(self):
        uid = self.rnd.choice(list(self.held))
        for part in self.timed("IMAP", self.imap.uid, "FETCH", str(uid), "(UID BODY.PEEK[])"):
            if isinstance(part, tuple):
                assert digest(part[1]) == self.held[uid][0], f"FETCH of {self.box} {uid} gave other bytes"
                return
        assert uid in self.unsure, f"{self.box} {uid} is not there"

    def store(self):
        uid = self.rnd.choice(list(self.held))
        flag = self.rnd.choice([r"\Seen", r"\Flagged", r"\Answered"])
        flags, self.held[uid][1] = self.held[uid][1], None
        self.timed("IMAP", self.imap.uid, "STORE", str(uid), "+FLAGS.SILENT", f"({flag})")
        self.held[uid][1] = flags if flags is None else flags | {flag}

    def expunge(self):
        uids = set(self.rnd.sample(list(self.held), 3))
        those = ",".join(map(str, uids))
        for uid in uids:
            self.held[uid][1] = None
        self.timed("IMAP", self.imap.uid, "STORE", those, "+FLAGS.SILENT", r"(\Deleted)")
        self.unsure |= uids
        self.timed("IMAP", self.imap.uid, "EXPUNGE", those)
        self.unsure -= uids
        self.expunged |= uids
        for uid in uids:
            del self.held[uid]

    def look(self):
        """At what is delivered."""
        [count] = self.timed("IMAP", self.imap.select, "INBOX", True)
        if int(count):
            parts = self.timed("IMAP", self.imap.fetch, str(self.rnd.randint(1, int(count))), "(UID BODY.PEEK[])")
            [data] = [part[1] for part in parts if isinstance(part, tuple)]
            data = data[data.index(b"\r\nFrom: a@example.net\r\n") + 2:]
            mark = re.search(rb"Subject: (\S+)\r", data).group(1).decode()
            assert self.load.acknowledged.get(mark, digest(data)) == digest(data), f"FETCH of {mark} gave other bytes"
        self.timed("IMAP", self.imap.select, self.box)

    def step(self):
        if len(self.held) > KEPT:
            self.expunge()
        elif not self.held:
            self.append()
        else:
            self.rnd.choice([self.append, self.append, self.fetch, self.store, self.look])()

    def check(self):
        """Called when all has stopped."""
        imap = self.load.platform.imap(self.load.address, select=self.box)
        found = {}
        for part in ok(imap.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")):
            if isinstance(part, tuple):
                uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
                flags = re.search(rb"FLAGS \(([^)]*)\)", part[0]).group(1).decode().split()
                found[uid] = digest(part[1]), set(flags) - {r"\Recent"}
        imap.logout()
        for uid, (sum_, flags) in self.held.items():
            assert uid in found or uid in self.unsure, f"{self.box}: {uid} is lost"
            if uid in found:
                assert found[uid][0] == sum_, f"{self.box}: {uid} is damaged"
                assert flags is None or found[uid][1] == flags, f"{self.box}: {uid} has other flags"
        back = self.expunged & set(found)
        assert not back, f"{self.box}: {back} are back"


class MixedLoad:
    """Starts at once. `refused`: what was answered with a refusal. `slowest`: {"SMTP": s, "IMAP": s}, since the last
    call of fresh()."""

    def __init__(self, platform, address):
        self.platform, self.address = platform, address
        self.acknowledged = {}  # mark: digest, of deliveries
        self.refused, self.broken, self.failures = [], 0, []
        self.slowest, self.answers = {}, 0
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.fresh()
        self.readers = [Reader(self, n) for n in range(READING)]
        imap = platform.imap(address, PASSWORD, select=None)
        for reader in self.readers:  # before anything goes wrong: what is refused later is not for want of them
            imap.create(reader.box)
        imap.logout()
        self.threads = [threading.Thread(target=self.deliver_all, args=(n,), daemon=True) for n in range(DELIVERING)]
        self.threads += [threading.Thread(target=self.read_all, args=(r,), daemon=True) for r in self.readers]
        for thread in self.threads:
            thread.start()

    def fresh(self):
        with self.lock:
            self.slowest = {"SMTP": 0.0, "IMAP": 0.0}
            self.answers = 0

    def waited(self, what, seconds):
        with self.lock:
            self.slowest[what] = max(self.slowest[what], seconds)
            self.answers += 1

    def refuse(self, what, answer):
        with self.lock:
            self.refused.append((what, answer))

    def deliver_all(self, number):
        rnd = random.Random(f"{number} {time.time_ns()}")
        count = 0
        while not self.stopping.is_set():
            try:
                with self.platform.smtp() if number % 2 else self.platform.lmtp() as client:
                    while not self.stopping.is_set():
                        count += 1
                        mark = f"{number}-{count}-{rnd.getrandbits(48):012x}"
                        data = mail(rnd, mark)
                        start = time.monotonic()
                        client.sendmail("s@example.net", [self.address], data)
                        self.waited("SMTP", time.monotonic() - start)
                        with self.lock:
                            self.acknowledged[mark] = digest(data)
            except smtplib.SMTPResponseException as error:
                self.refuse("SMTP", (error.smtp_code, error.smtp_error))
                time.sleep(0.1)
            except smtplib.SMTPRecipientsRefused as error:
                self.refuse("SMTP", next(iter(error.recipients.values())))
                time.sleep(0.1)
            except (OSError, EOFError, smtplib.SMTPException):
                self.broken += 1
                time.sleep(0.1)

    def read_all(self, reader):
        while not self.stopping.is_set():
            try:
                reader.connect()
                while not self.stopping.is_set():
                    try:
                        reader.step()
                    except Refused:
                        time.sleep(0.1)
                        self.restore(reader)
                reader.imap.logout()
            except AssertionError as error:
                self.failures.append(str(error))
                return
            except (OSError, EOFError, imaplib.IMAP4.error, Refused):
                self.broken += 1
                time.sleep(0.1)

    @staticmethod
    def restore(reader):
        """Whatever was selected: its own mailbox again."""
        kind, _ = reader.imap.select(reader.box)
        if kind != "OK":
            raise Refused

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=90)
            assert not thread.is_alive(), "a connection got no answer in 90 s"
        assert not self.failures, self.failures

    def check(self):
        """All that was acknowledged is there, as it was."""
        found = {mark: sum_ for mark, sum_ in delivered(self.platform, self.address).values()}
        lost = [mark for mark, sum_ in self.acknowledged.items() if found.get(mark) != sum_]
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged messages are lost or damaged: {lost[:5]}"
        for reader in self.readers:
            reader.check()
