"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677) in IMAP and POP3, by a client that is written here from the RFCs."""
import base64
import hashlib
import hmac
import imaplib
import poplib
import re
import shutil
import ssl
import subprocess
import time

import pytest
from platform_under_test import PASSWORD, Platform

USER = "user@example.org"


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("scram")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    platform = Platform(folder / "platform").init()
    text = platform.config.read_text()
    text = re.sub(r"(?m)^# \[tls\]\n# cert = .*\n# key = .*$",
                  f"[tls]\ncert = {folder}/cert.pem\nkey = {folder}/key.pem", text)
    platform.config.write_text(text)
    platform.add_account(USER)
    platform.start()
    yield platform
    assert platform.stop() == 0


class Scram:
    """The client's side of one exchange; `binding` is what a -PLUS mechanism is bound to."""

    def __init__(self, password=PASSWORD, flag="n", binding=b""):
        self.password, self.gs2, self.binding = password.encode(), f"{flag},,".encode(), binding
        self.bare = b"n=" + USER.encode() + b",r=clientnonce"
        self.verified = False
        self.steps = iter((self.first, self.final, self.last))

    def __call__(self, challenge):
        return next(self.steps)(challenge)

    def first(self, challenge):
        assert challenge == b""
        return self.gs2 + self.bare

    def final(self, challenge):
        nonce, salt, iterations = re.fullmatch(rb"r=(clientnonce[^,]+),s=([^,]+),i=(\d+)", challenge).groups()
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(iterations))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        message = b"c=" + base64.b64encode(self.gs2 + self.binding) + b",r=" + nonce
        auth_message = self.bare + b"," + challenge + b"," + message
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth_message, "sha256")
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), auth_message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return message + b",p=" + base64.b64encode(proof)

    def last(self, challenge):
        self.verified = challenge == b"v=" + base64.b64encode(self.server_signature)
        return b""


def tls_context():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def imap(platform, tls):
    connection = imaplib.IMAP4("127.0.0.1", platform.ports["imap"], timeout=60)
    if tls:
        connection.starttls(tls_context())
    return connection


def end_point(connection):
    """RFC 5929 4.1: the certificate's own hash is SHA-256 here."""
    return hashlib.sha256(connection.sock.getpeercert(binary_form=True)).digest()


def test_imap(secure):
    connection = imap(secure, tls=False)
    assert "AUTH=SCRAM-SHA-256" in connection.capabilities and "AUTH=SCRAM-SHA-256-PLUS" not in connection.capabilities
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        connection.authenticate("SCRAM-SHA-256", Scram("wrong"))
    scram = Scram(flag="y")  # it could bind, and rightly thinks that we cannot
    assert connection.authenticate("SCRAM-SHA-256", scram)[0] == "OK" and scram.verified
    assert connection.select("INBOX")[0] == "OK"


def test_guessing_is_slowed(secure):
    """As with other passwords: each wrong one waits a second."""
    connection = imap(secure, tls=False)
    begin = time.monotonic()
    for _ in range(2):
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            connection.authenticate("SCRAM-SHA-256", Scram("wrong"))
    assert time.monotonic() - begin > 1.9


def test_imap_bound_to_tls(secure):
    connection = imap(secure, tls=True)
    assert "AUTH=SCRAM-SHA-256-PLUS" in connection.capabilities
    # RFC 5802 6: somebody has taken -PLUS off the list; another connection's binding; none.
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        connection.authenticate("SCRAM-SHA-256", Scram(flag="y"))
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        connection.authenticate("SCRAM-SHA-256-PLUS", Scram(flag="p=tls-server-end-point", binding=bytes(32)))
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        connection.authenticate("SCRAM-SHA-256-PLUS", Scram(flag="p=tls-exporter", binding=bytes(32)))
    with pytest.raises(imaplib.IMAP4.error, match="Malformed"):
        connection.authenticate("SCRAM-SHA-256-PLUS", Scram())
    scram = Scram(flag="p=tls-server-end-point", binding=end_point(connection))
    assert connection.authenticate("SCRAM-SHA-256-PLUS", scram)[0] == "OK" and scram.verified


def test_pop3(secure):
    """RFC 5034 4."""
    connection = poplib.POP3("127.0.0.1", secure.ports["pop3"], timeout=60)
    connection.stls(tls_context())
    assert connection.capa()["SASL"] == ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
    scram = Scram(flag="p=tls-server-end-point", binding=end_point(connection))
    answer = connection._shortcmd("AUTH SCRAM-SHA-256-PLUS " + base64.b64encode(scram(b"")).decode())
    while answer.startswith(b"+ "):
        answer = connection._shortcmd(base64.b64encode(scram(base64.b64decode(answer[2:]))).decode())
    assert answer.startswith(b"+OK Maildrop") and scram.verified
    assert connection.stat() == (0, 0)
    connection.quit()
