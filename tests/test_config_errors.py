"""What is wrong with a configuration or its folders is said so that it can be mended."""
import re
import shutil
import socket
import subprocess
import uuid

import pytest
from platform_under_test import PROGRAM


def serve_fails(platform):
    """stderr of a server that must not start: its last line is the error."""
    result = subprocess.run([PROGRAM, "-c", platform.config, "serve"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("sternpost: ")
    return last


@pytest.fixture
def stopped(new_platform):
    return new_platform(start=False)


def edit(platform, old, new):
    text = platform.config.read_text()
    assert old in text
    platform.config.write_text(text.replace(old, new, 1))


def line_of(platform, text):
    return platform.config.read_text().splitlines().index(text) + 1


def test_unknown_key_names_the_line(stopped):
    edit(stopped, "imap = ", "impa = ")
    number = line_of(stopped, "impa = 127.0.0.1:0")
    assert serve_fails(stopped) == (
        f"sternpost: {stopped.config}:{number}: [listen] impa: unknown key: did you mean imap?")


def test_unknown_section(stopped):
    edit(stopped, "[listen]", "[listn]")
    assert "[listn]: unknown section: did you mean listen?" in serve_fails(stopped)


def test_unknown_unit(stopped):
    edit(stopped, "units = a b c", "units = a b d")
    assert "there is no unit d" in serve_fails(stopped)


def test_too_few_replicas(stopped):
    edit(stopped, "min_copies = 2", "min_copies = 3")
    assert "has 2 replicas, and needs 3" in serve_fails(stopped)


def test_shared_domain_must_be_allowed(stopped):
    edit(stopped, "allow_shared_domain = yes", "allow_shared_domain = no")
    assert "one failure domain" in serve_fails(stopped) and "allow_shared_domain" in serve_fails(stopped)


def test_port_in_use(stopped):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = re.sub(r"(?m)^imap = .*$", f"imap = 127.0.0.1:{port}", stopped.config.read_text())
        stopped.config.write_text(text)
        error = serve_fails(stopped)
        assert str(port) in error and "in use" in error


def test_missing_certificate(stopped):
    edit(stopped, "# [tls]\n# cert = fullchain.pem\n# key = privkey.pem\n", "[tls]\ncert = no.pem\nkey = no.pem\n")
    assert "no.pem" in serve_fails(stopped)


def test_other_unit_id(stopped):
    edit(stopped, "path = b\n", f"path = b\nid = {uuid.uuid4()}\n")
    assert "b" in serve_fails(stopped)


def test_units_of_another_volume(stopped, new_platform):
    other = new_platform("other", accounts=(), start=False)
    shutil.rmtree(stopped.folder / "b")
    shutil.copytree(other.folder / "b", stopped.folder / "b")
    assert "belongs to volume" in serve_fails(stopped)


def test_no_units_at_all(stopped):
    for name in "abc":
        shutil.rmtree(stopped.folder / name)
    assert "none of its units is there" in serve_fails(stopped)


def test_one_absent_unit_is_no_obstacle(stopped):
    shutil.rmtree(stopped.folder / "b")
    stopped.start()
    assert "event=unit.absent" in stopped.log_text()
    assert stopped.imap("user@example.org").logout()[0] == "BYE"


def test_an_empty_folder_is_an_absent_unit(stopped):
    shutil.rmtree(stopped.folder / "b")
    (stopped.folder / "b").mkdir()
    stopped.start()
    assert "unit=b" in stopped.log_text()
    assert list((stopped.folder / "b").iterdir()) == []


def test_nothing_to_listen_on(stopped):
    text = re.sub(r"(?m)^(smtp|lmtp|imap|pop3) = .*\n", "", stopped.config.read_text())
    stopped.config.write_text(text)
    assert "nothing to listen on" in serve_fails(stopped)


def test_state_folder_cannot_be_made(stopped):
    (stopped.folder / "file").write_text("")
    edit(stopped, "state = state", "state = file/state")
    assert "Not a directory" in serve_fails(stopped)
