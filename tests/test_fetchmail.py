"""fetchmail over TLS: mail is kept or deleted as it was told, and no message is fetched twice."""
import json
import os
import re
import shutil
import subprocess

import pytest
from platform_under_test import PASSWORD, Platform, message, uids


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fetchmail")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    platform = Platform(folder / "platform").init()
    text = platform.config.read_text()
    platform.config.write_text(re.sub(r"(?m)^# \[tls\]\n# cert = .*\n# key = .*$",
                                      f"[tls]\ncert = {folder}/cert.pem\nkey = {folder}/key.pem", text))
    platform.cert = folder / "cert.pem"
    platform.start()
    yield platform
    assert platform.stop() == 0


@pytest.mark.skipif(not shutil.which("fetchmail") or not shutil.which("openssl"), reason="not installed: fetchmail, openssl")
@pytest.mark.parametrize("how", ("keep, fetchall", "keep, uidl", "nokeep"))
def test_fetchmail(secure, tmp_path, request, how):
    """RFC 1939 7 (UIDL), RFC 2595 4 (STLS): each message once, and gone from the server only with nokeep."""
    address = secure.add_account(re.sub(r"\W+", "-", request.node.name).strip("-") + "@example.org")
    imap = secure.imap(address)
    for subject in ("one", "two", "three"):
        imap.append("INBOX", "", None, message(subject))
    got, config = tmp_path / "got", tmp_path / "fetchmailrc"
    keep = "nokeep" if how == "nokeep" else "keep"
    config.write_text(f"""poll 127.0.0.1 service {secure.ports["pop3"]} protocol pop3 {"uidl" if "uidl" in how else ""}
        user "{address}" password "{PASSWORD}" sslproto "TLS1.2+" sslcertck sslcertfile "{secure.cert}" sslcommonname "localhost"
        {keep} {"fetchall" if "fetchall" in how else ""}
        mda "grep ^Subject: >> {got}"
""")
    config.chmod(0o600)

    def run():
        result = subprocess.run(["fetchmail", "--nodetach", "--nosyslog", "-f", config, "-i", tmp_path / "ids", "--pidfile",
                                 tmp_path / "pid"], capture_output=True, text=True, timeout=60,
                                env={**os.environ, "HOME": str(tmp_path), "FETCHMAILHOME": str(tmp_path)})
        return result.returncode, result.stdout + result.stderr

    code, said = run()
    assert code == 0, said
    assert got.read_text() == "Subject: one\nSubject: two\nSubject: three\n"
    if how == "keep, uidl":
        code, said = run()
        assert code in (0, 1), said  # 1: nothing new
        assert got.read_text().count("\n") == 3  # nothing is downloaded twice
    imap.select("INBOX")
    assert len(uids(imap)) == (0 if how == "nokeep" else 3)
    if how == "nokeep":  # what POP3 has deleted is held, and can be brought back
        back = json.loads(secure.command("undelete", "--account", address, "--json").stdout)
        assert back["messages"] == 3
