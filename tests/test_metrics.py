"""The metrics listener: its format, its limits, and that what it counts moves when something happens."""
import http.client
import os
import poplib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from exposition import Broken, Metrics
from platform_under_test import PASSWORD, PROGRAM, fetch_all, message, ok

ADDRESS = "user@example.org"
ROOT = Path(__file__).resolve().parent.parent


def listen(platform, value="127.0.0.1:0", **more):
    text = platform.config.read_text()
    lines = "".join(f"\n{key} = {value}" for key, value in {"metrics": value, **more}.items())
    platform.config.write_text(text.replace("[listen]", "[listen]" + lines, 1))


@pytest.fixture
def measured(new_platform):
    platform = new_platform(start=False)
    listen(platform)
    platform.configure(segment_size="1M")
    return platform.start()


def ask(platform, method="GET", path="/metrics", body=None):
    client = http.client.HTTPConnection("127.0.0.1", platform.ports["metrics"], timeout=20)
    client.request(method, path, body=body)
    answer = client.getresponse()
    text = answer.read().decode()
    client.close()
    return answer, text


def metrics(platform):
    answer, text = ask(platform)
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(text)


def until(platform, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        now = metrics(platform)
        if condition(now):
            return now
        assert time.monotonic() < deadline, "it does not show in the metrics"
        time.sleep(0.2)


def deliver(platform, count=1, size=3000):
    with platform.smtp() as client:
        for n in range(count):
            client.sendmail("s@example.net", [ADDRESS], message(f"number {n}", os.urandom(size // 2).hex() + "\n"))


def test_format_and_documents(measured):
    """Every line reads; every metric is documented with its type, and none is that is not there."""
    deliver(measured)
    now = metrics(measured)
    documented = dict(re.findall(r"^\| `(sternpost_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M))
    assert documented == now.families
    alarms = re.findall(r"sternpost_\w+", "".join(re.findall(r"```yaml\n(.*?)```",
                                                             (ROOT / "docs/metrics.md").read_text(), re.S)))
    suffixes = re.compile(r"_(bucket|sum|count)$")
    assert alarms and {suffixes.sub("", name) for name in alarms} <= set(now.families)


def test_strict_reader():
    good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\\\"\"} 1\n"
    assert Metrics(good).get("a_total", b='c\\"') == 1
    for bad in ("a_total 1\n", good[:-1], good + "\n", good + "a_total{b=\"c\\\"\"} 1\n", good + "b_total 1\n",
                good.replace("counter", "gauge"), good.replace("} 1", "} -1"), good.replace(" 1\n", " x\n"),
                good + "# TYPE a_total counter\n", good.replace("\\\"", "\""), good.replace("# HELP a_total x\n", "")):
        with pytest.raises(Broken):
            Metrics(bad)


def test_mail_counts(measured):
    before = metrics(measured)
    deliver(measured, 3)
    with measured.lmtp() as client:
        client.sendmail("s@example.net", [ADDRESS], message())
    with measured.smtp() as client:
        client.ehlo()
        client.mail("s@example.net")
        assert client.rcpt("nobody@example.org")[0] == 550
    imap = measured.imap(ADDRESS)
    ok(imap.append("INBOX", None, None, message()))
    with pytest.raises(Exception):
        measured.imap(ADDRESS, "wrong")
    pop3 = poplib.POP3("127.0.0.1", measured.ports["pop3"], timeout=60)
    pop3.user(ADDRESS)
    with pytest.raises(poplib.error_proto):
        pop3.pass_("wrong")
    pop3.user(ADDRESS)
    pop3.pass_(PASSWORD)
    pop3.quit()
    now = metrics(measured)

    def moved(name, **labels):
        return now.sum(name, **labels) - before.sum(name, **labels)

    assert moved("sternpost_messages_total", protocol="smtp") == 3
    assert moved("sternpost_message_copies_total", protocol="smtp") == 3
    assert moved("sternpost_messages_total", protocol="lmtp") == 1
    assert moved("sternpost_messages_total", protocol="imap") == 1
    assert moved("sternpost_sessions_total", protocol="smtp") == 2
    assert now.get("sternpost_sessions", protocol="imap") >= 1
    assert moved("sternpost_logins_total", protocol="imap") == 1
    assert moved("sternpost_logins_denied_total", protocol="imap") == 1
    assert moved("sternpost_answers_refused_total", protocol="smtp", **{"class": "permanent"}) == 1
    assert moved("sternpost_answers_refused_total", protocol="imap", **{"class": "permanent"}) == 1
    assert moved("sternpost_answers_refused_total", protocol="pop3", **{"class": "permanent"}) == 1
    assert moved("sternpost_logins_total", protocol="pop3") == moved("sternpost_logins_denied_total", protocol="pop3") == 1
    assert moved("sternpost_volume_commits_total") >= 5
    assert moved("sternpost_volume_commit_seconds_count") == moved("sternpost_volume_commits_total")
    assert moved("sternpost_unit_writes_total", unit="a") >= moved("sternpost_volume_batches_total") > 0
    assert moved("sternpost_unit_writes_total", unit="c") == 0
    assert now.get("sternpost_unit_state", unit="a", state="replica") == 1
    assert now.get("sternpost_unit_state", unit="c", state="spare") == 1
    assert now.get("sternpost_volume_copies") == 2
    assert now.get("sternpost_unit_free_bytes", unit="a") > 0
    imap.logout()


def test_faults_count(measured):
    """A unit vanishes: ejected, a spare recruited, the rest brought to it. A disk rots: found, served, mended."""
    deliver(measured, 800)
    before = metrics(measured)
    assert before.get("sternpost_volume_segments") > 4
    os.rename(measured.folder / "b", measured.folder / "gone")
    until(measured, lambda m: m.get("sternpost_volume_ejections_total") == 1)
    now = until(measured, lambda m: m.get("sternpost_volume_thin_lsn") == 0)
    assert now.get("sternpost_volume_recruits_total") == 1
    assert now.get("sternpost_unit_state", unit="b", state="ejected") == 1
    assert now.get("sternpost_unit_state", unit="b", state="replica") == 0
    assert now.get("sternpost_unit_state", unit="c", state="replica") == 1
    assert now.get("sternpost_unit_resilvered_bytes_total", unit="c") > 2 << 20
    assert now.get("sternpost_unit_resilver_remaining_bytes", unit="c") == 0
    assert now.get("sternpost_volume_epoch") > before.get("sternpost_volume_epoch")
    assert now.get("sternpost_log_lines_total", level="error") >= 1

    segment = [s for s in sorted((measured.folder / "a" / "segments").glob("*.seg")) if s.stat().st_size > 1 << 20][0]
    good = segment.read_bytes()
    subprocess.run(["dd", "if=/dev/urandom", f"of={segment}", "bs=4096", "seek=20", "count=100", "conv=notrunc"],
                   check=True, capture_output=True)
    imap = measured.imap(ADDRESS)
    assert len(fetch_all(imap)) == 800
    imap.logout()
    now = until(measured, lambda m: m.get("sternpost_unit_blocks_mended_total", unit="a") == 100)
    assert now.get("sternpost_unit_blocks_served_total", unit="a") >= 100
    assert now.get("sternpost_volume_blocks_bad_total") >= 100
    assert now.get("sternpost_volume_blocks_unmendable_total") == 0
    assert now.get("sternpost_unit_blocks_bad_total", unit="c") == 0
    assert segment.read_bytes() == good
    assert "event=read.repair volume=main unit=a" in measured.log_text()


def test_scrub_shows(measured):
    deliver(measured, 300)
    before = metrics(measured)
    assert before.get("sternpost_scrub_age_seconds") < 600
    assert before.get("sternpost_unit_scrubbed_timestamp_seconds", unit="a") == 0
    segment = next(s for s in sorted((measured.folder / "a" / "segments").glob("*.seg")) if s.stat().st_size > 80 * 4096)
    with open(segment, "r+b") as file:
        file.seek(9 * 4096)
        file.write(os.urandom(4096))
    measured.command("scrub", "--now")
    now = metrics(measured)
    assert now.get("sternpost_scrub_blocks_mended") == 1
    assert now.get("sternpost_scrub_progress_ratio") == 1
    assert now.get("sternpost_unit_blocks_mended_total", unit="a") == 1
    when = now.get("sternpost_unit_scrubbed_timestamp_seconds", unit="a")
    assert abs(when - time.time()) < 60
    # A restart forgets neither that nor its age.
    assert measured.stop() == 0
    measured.start()
    now = metrics(measured)
    assert now.get("sternpost_unit_scrubbed_timestamp_seconds", unit="a") == when
    assert now.get("sternpost_scrub_overdue") == 0
    assert now.get("sternpost_scrub_max_age_seconds") == 30 * 86400


def test_http(measured):
    assert ask(measured, path="/")[0].status == 404
    assert ask(measured, path="/metrics/../etc")[0].status == 404
    assert ask(measured, method="POST", body=b"x" * 100000)[0].status == 405
    answer, text = ask(measured, method="HEAD")
    assert answer.status == 200 and text == ""
    port = measured.ports["metrics"]
    # Nonsense, too much, and too many: nothing of it harms the next.
    for junk in (b"\0" * 100, b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 10000, b"GET " + b"/" * 50000, b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as junked:
            try:
                junked.sendall(junk)
                junked.shutdown(socket.SHUT_WR)
                while junked.recv(65536):
                    pass
            except OSError:
                pass
    idle = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
    time.sleep(0.2)
    for connection in idle:
        connection.close()
    time.sleep(0.2)
    assert metrics(measured)
    # One that sends nothing is closed.
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        begun = time.monotonic()
        assert silent.recv(1) == b""
        assert 5 < time.monotonic() - begun < 18


def test_many_at_once(measured):
    """While mail comes in, several ask: all answers read."""
    failures = []

    def scrape():
        try:
            for _ in range(20):
                metrics(measured)
        except Exception as error:  # told below
            failures.append(error)

    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    deliver(measured, 100)
    for thread in threads:
        thread.join()
    assert not failures


def unix_get(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 ")
    return Metrics(body.decode())


def test_unix_socket(new_platform):
    platform = new_platform(start=False)
    listen(platform, "unix:state/metrics.sock")
    path = platform.folder / "state" / "metrics.sock"
    platform.start()
    assert unix_get(path).get("sternpost_volume_copies") == 2
    assert path.stat().st_mode & 0o777 == 0o660
    platform.stop(signal.SIGKILL)
    assert path.exists()
    platform.start()  # over what was left behind
    assert unix_get(path).get("sternpost_volume_copies") == 2
    assert platform.stop() == 0
    assert not path.exists()
    # What is no socket is not taken away.
    path.write_text("precious")
    result = subprocess.run([PROGRAM, "-c", str(platform.config), "serve"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "metrics" in result.stderr
    assert path.read_text() == "precious"


@pytest.mark.parametrize("value, words", [
    ("192.0.2.1:9187", "loopback"), (":9187", "loopback"), ("nonsense", "unix:PATH"), ("unix:" + "x" * 120, "107 bytes"),
])
def test_refused_addresses(new_platform, value, words):
    platform = new_platform(start=False, accounts=())
    listen(platform, value)
    result = platform.command("volume", "list", check=False)
    assert result.returncode == 1 and words in result.stderr and "sternpost.conf:" in result.stderr


def test_anywhere_when_said(new_platform):
    platform = new_platform(start=False, accounts=())
    listen(platform, "192.0.2.1:9187", metrics_anywhere="yes")
    assert platform.command("volume", "list").returncode == 0


# ---- Alert rules

def rules():
    return "".join(re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/metrics.md").read_text(), re.S))


def fires(alert, before, now):
    """Whether a rule's condition holds: `name{label="value"} OP number or name`, or increase() or delta() of such,
    which here is from the look before."""
    expression = re.search(rf"alert: {alert}\n\s+expr: (.*)", rules()).group(1)
    match = re.fullmatch(r"(?:(increase|delta)\()?(\w+)(?:\{(\w+)(=~?)\"([^\"]+)\"\})?(?:\[\w+\]\))? (==|<|>) (\S+)", expression)
    assert match, expression
    change, name, label, _, wanted, operator, right = match.groups()

    def value(look):
        return {labels: v for (n, labels), v in look.samples.items()
                if n == name and (not label or re.fullmatch(wanted, dict(labels)[label]))}
    found = value(now)
    assert found, expression
    if change:
        found = {labels: v - value(before).get(labels, 0) for labels, v in found.items()}
    limit = now.get(right) if right.startswith("sternpost_") else float(right)
    return any({"==": v == limit, "<": v < limit, ">": v > limit}[operator] for v in found.values())


def test_alerts_come_true(measured):
    """For faults that are real, and not before."""
    quiet = ("SternpostDeferring", "SternpostTooFewCopies", "SternpostUnitOut", "SternpostErrorsLogged", "SternpostRot",
             "SternpostGuardWaiting", "SternpostGuardRefused", "SternpostScrubOverdue",
             "SternpostMergeConflicts", "SternpostUnmendable", "SternpostMisdirected")
    deliver(measured, 2)
    before = metrics(measured)
    assert [alert for alert in quiet if fires(alert, before, before)] == []
    os.rename(measured.folder / "b", measured.folder / "gone")
    until(measured, lambda m: fires("SternpostUnitOut", before, m) and fires("SternpostErrorsLogged", before, m))
    now = until(measured, lambda m: m.get("sternpost_volume_thin_lsn") == 0)
    assert not fires("SternpostDeferring", before, now) and not fires("SternpostTooFewCopies", before, now)
    os.rename(measured.folder / "c", measured.folder / "gone too")
    until(measured, lambda m: fires("SternpostDeferring", before, m))
    assert fires("SternpostTooFewCopies", before, metrics(measured))


def test_alert_of_the_guard(new_platform):
    platform = new_platform(start=False)
    listen(platform)
    text = re.sub(r"(?m)^cooling_off = .*\n", "", platform.config.read_text())
    platform.config.write_text(text.replace("[guard]\n", "[guard]\ncooling_off = 1h\n"))
    platform.start()
    before = metrics(platform)
    assert not fires("SternpostGuardWaiting", before, before)
    platform.command("account", "remove", ADDRESS, "--confirm", ADDRESS)
    now = metrics(platform)
    assert fires("SternpostGuardWaiting", before, now) and now.get("sternpost_guard_unapproved") == 0
    request = re.search(r"[0-9a-f-]{36}", platform.command("guard", "list").stdout).group(0)
    platform.command("guard", "undo", request)
    now = metrics(platform)
    assert not fires("SternpostGuardWaiting", before, now)
    assert now.get("sternpost_guard_requests", state="undone") == 1


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool(measured, tmp_path):
    file = tmp_path / "rules.yml"
    file.write_text(rules())
    said = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    said = subprocess.run(["promtool", "check", "metrics"], input=ask(measured)[1], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
