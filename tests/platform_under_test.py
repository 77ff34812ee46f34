"""A Sternpost platform for a test: initialised in a folder of its own, on ports that are free, started and stopped."""
import imaplib
import os
import poplib
import re
import signal
import smtplib
import subprocess
import time
from pathlib import Path

PROGRAM = os.environ.get("SP_PROGRAM", str(Path(__file__).resolve().parent.parent / "build" / "sternpost"))
PASSWORD = "correct horse battery staple"
START_SECONDS = 60
STOP_SECONDS = 30


class CommandFailed(Exception):
    def __init__(self, result):
        super().__init__(f"exit {result.returncode}: {result.stderr}")
        self.code, self.stdout, self.stderr = result.returncode, result.stdout, result.stderr


class Platform:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.config = self.folder / "sternpost.conf"
        self.log_path = self.folder.parent / (self.folder.name + ".log")
        self.process = None
        self.ports = {}
        self.arguments = []  # of serve

    # ---- commands ----

    def command(self, *words, stdin="", check=True, timeout=120):
        """Runs `sternpost -c CONFIG WORDS...`; CommandFailed unless it exits with 0."""
        result = subprocess.run([PROGRAM, "-c", str(self.config), *map(str, words)], input=stdin, text=True,
                                errors="surrogateescape", capture_output=True, timeout=timeout)
        if check and result.returncode != 0:
            raise CommandFailed(result)
        return result

    def init(self):
        # Port 0: the kernel chooses, and the log says which.
        subprocess.run([PROGRAM, "init", str(self.folder), "--smtp", "0", "--lmtp", "0", "--imap", "0",
                        "--pop3", "0"], check=True, capture_output=True, text=True, timeout=60)
        return self

    def add_account(self, address, password=PASSWORD):
        self.command("account", "add", address, stdin=password + "\n")
        return address

    def configure(self, **values):
        """Adds keys to [volume main], or replaces them."""
        text = self.config.read_text()
        head, volume = text.split("[volume main]", 1)
        for key, value in values.items():
            volume = re.sub(rf"(?m)^{key} = .*\n", "", volume).rstrip("\n") + f"\n{key} = {value}\n"
        self.config.write_text(head + "[volume main]" + volume)

    # ---- the server ----

    def start(self):
        self.log = open(self.log_path, "ab")
        begin = self.log_path.stat().st_size
        self.process = subprocess.Popen([PROGRAM, "-c", str(self.config), "serve", *self.arguments], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            text = self.log_path.read_bytes()[begin:].decode(errors="replace")
            ready = re.search(r"event=server\.ready .*", text)
            if ready and text[ready.end():].startswith("\n"):
                break
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{text}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the server is not ready after {START_SECONDS} s:\n{text}")
            time.sleep(0.02)
        self.ports = {name: int(port) for name, port in re.findall(r" (\w+)=127\.0\.0\.1:(\d+)", ready.group(0))}
        return self

    def stop(self, sig=signal.SIGTERM):
        """Stops it and returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout=STOP_SECONDS)
        self.process = None
        self.log.close()
        return code

    def kill(self):
        self.stop(signal.SIGKILL)

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    # ---- clients ----

    def smtp(self, **options):
        return smtplib.SMTP("127.0.0.1", self.ports["smtp"], local_hostname="client.example.net", timeout=60, **options)

    def lmtp(self):
        return smtplib.LMTP("127.0.0.1", self.ports["lmtp"], local_hostname="client.example.net", timeout=60)

    def pop3(self, address, password=PASSWORD):
        connection = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=60)
        connection.user(address)
        connection.pass_(password)
        return connection

    def imap(self, address, password=PASSWORD, select="INBOX"):
        connection = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=60)
        connection.login(address, password)
        if select:
            ok(connection.select(select))
        return connection


def ok(answer):
    """The data of an IMAP answer that must be OK."""
    kind, data = answer
    assert kind == "OK", (kind, data)
    return data


def fetch_all(imap, items="(UID BODY.PEEK[])"):
    """{uid: bytes} of the selected mailbox."""
    data = ok(imap.uid("FETCH", "1:*", items))
    found = {}
    for part in data:
        if isinstance(part, tuple):
            uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
            assert uid not in found
            found[uid] = part[1]
    return found


def uids(imap):
    return [int(uid) for uid in ok(imap.uid("SEARCH", "ALL"))[0].split()]


def message(subject="hello", body="body\n", sender="a@example.net", to="user@example.org", extra=""):
    text = f"From: {sender}\nTo: {to}\nSubject: {subject}\n{extra}\n{body}"
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def without_added(stored):
    """The message as it was sent: without the fields that delivery puts in front."""
    rest = stored
    for name in (b"return-path", b"received"):
        assert rest[:len(name) + 1].lower() == name + b":", rest[:200]
        end = 0
        while True:
            end = rest.index(b"\r\n", end) + 2
            if rest[end:end + 1] not in (b" ", b"\t"):
                break
        rest = rest[end:]
    return rest
