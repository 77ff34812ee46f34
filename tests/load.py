"""Load from twenty connections that remember what was acknowledged to them, and a look at whether it is there."""
import hashlib
import random
import smtplib
import threading
import time

from mailbox_state import bodies
from platform_under_test import message

CONNECTIONS = 20


class Load:
    """Twenty connections that deliver one message after another, over SMTP and LMTP, and remember which were taken."""

    def __init__(self, platform, recipients):
        self.platform, self.recipients = platform, recipients
        self.acknowledged = {}  # mark: digest of the message
        self.refused, self.slowest = [], 0.0
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def connect(self, number):
        return self.platform.smtp() if number % 2 else self.platform.lmtp()

    def run(self, number):
        rnd = random.Random(f"{number} {time.time_ns()}")
        count = 0
        while not self.stopping.is_set():
            try:
                with self.connect(number) as client:
                    while not self.stopping.is_set():
                        count += 1
                        self.deliver(client, rnd, number, count)
            except smtplib.SMTPResponseException as error:
                with self.lock:
                    self.refused.append((error.smtp_code, error.smtp_error))
            except (OSError, EOFError, smtplib.SMTPException):
                time.sleep(0.01)  # the server is gone, or goes

    def deliver(self, client, rnd, number, count):
        mark = f"{number}-{count}-{rnd.getrandbits(48):012x}"
        # Mostly small; now and then one that leaves the session in chunks.
        size = 400_000 if rnd.random() < 0.01 else rnd.randrange(10, 8000)
        data = message(mark, rnd.randbytes(size // 2).hex() + "\n")
        start = time.monotonic()
        refused = client.sendmail("s@example.net", self.recipients, data)
        with self.lock:
            self.slowest = max(self.slowest, time.monotonic() - start)
            if refused:
                self.refused.append(refused)
            else:
                self.acknowledged[mark] = hashlib.sha256(data).digest()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=90)
            assert not thread.is_alive()


def delivered(platform, address):
    """{uid: (mark, digest)} of INBOX."""
    imap = platform.imap(address)
    found = {}
    for line, data in bodies(imap):
        start = data.index(b"\r\nFrom: a@example.net\r\n") + 2
        mark = data[start:].split(b"Subject: ", 1)[1].split(b"\r\n", 1)[0].decode()
        found[int(line.split(b"UID ", 1)[1].split()[0])] = (mark, hashlib.sha256(data[start:]).digest())
    imap.logout()
    return found


def check(found, acknowledged):
    """Each acknowledged message is there, whole, once."""
    marks = [mark for mark, _ in found.values()]
    assert len(marks) == len(set(marks)), "a message is there twice"
    by_mark = {mark: digest for mark, digest in found.values()}
    lost = [mark for mark, digest in acknowledged.items() if by_mark.get(mark) != digest]
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged messages are lost or damaged: {lost[:5]}"
