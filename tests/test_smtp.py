"""Mail comes in by SMTP, and lies in the mailbox byte for byte."""
import smtplib
import socket
import uuid

import pytest
from platform_under_test import fetch_all, message, uids, without_added


def deliver(platform, data, to=("user@example.org",), sender="a@example.net"):
    with platform.smtp() as smtp:
        return smtp.sendmail(sender, list(to), data)


def find(platform, address, marker):
    imap = platform.imap(address)
    found = [data for data in fetch_all(imap).values() if marker.encode() in data]
    imap.logout()
    return found


def test_greeting_and_ehlo(shared_platform):
    with shared_platform.smtp() as smtp:
        code, text = smtp.ehlo()
        assert code == 250
        assert smtp.has_extn("pipelining") and smtp.has_extn("8bitmime") and smtp.has_extn("smtputf8")
        assert int(smtp.esmtp_features["size"]) == 100 << 20
        assert smtp.noop()[0] == 250 and smtp.rset()[0] == 250


def test_delivery_is_byte_for_byte(shared_platform):
    marker = uuid.uuid4().hex
    data = message(marker, "first\n.leading dot\n..two\n\n\ttab and trailing blank \n\nlast\n")
    deliver(shared_platform, data)
    [stored] = find(shared_platform, "user@example.org", marker)
    assert without_added(stored) == data
    assert stored.startswith(b"Return-Path: <a@example.net>\r\n")


def test_eight_bit_and_utf8(shared_platform):
    marker = uuid.uuid4().hex
    data = message(marker, "Grüße, 你好\n") + b"\xff\xfe raw\r\n"
    with shared_platform.smtp() as smtp:
        smtp.ehlo()
        smtp.sendmail("a@example.net", ["user@example.org"], data, mail_options=["BODY=8BITMIME"])
    [stored] = find(shared_platform, "user@example.org", marker)
    assert without_added(stored) == data


def test_several_recipients_share_one_message(shared_platform):
    marker = uuid.uuid4().hex
    refused = deliver(shared_platform, message(marker), ["user@example.org", "other@example.org", "nobody@example.org"])
    assert set(refused) == {"nobody@example.org"} and refused["nobody@example.org"][0] == 550
    for address in ("user@example.org", "other@example.org"):
        assert len(find(shared_platform, address, marker)) == 1


@pytest.mark.parametrize("address", ["nobody@example.org", "user@example.com", "user@elsewhere.example"])
def test_unknown_recipients_are_refused(shared_platform, address):
    with shared_platform.smtp() as smtp:
        smtp.ehlo()
        smtp.mail("a@example.net")
        code, text = smtp.rcpt(address)
        assert 550 <= code <= 554 and text.startswith(b"5.")


def test_null_sender_and_case(shared_platform):
    marker = uuid.uuid4().hex
    deliver(shared_platform, message(marker), ["USER@Example.ORG"], sender="")
    [stored] = find(shared_platform, "user@example.org", marker)
    assert stored.startswith(b"Return-Path: <>\r\n")


def test_detail_address(shared_platform):
    marker = uuid.uuid4().hex
    deliver(shared_platform, message(marker), ["user+lists@example.org"])
    assert len(find(shared_platform, "user@example.org", marker)) == 1


def test_many_messages_on_one_connection(shared_platform):
    marker = uuid.uuid4().hex
    with shared_platform.smtp() as smtp:
        for i in range(50):
            smtp.sendmail("a@example.net", ["third@example.org"], message(f"{marker} {i}"))
    found = find(shared_platform, "third@example.org", marker)
    assert len(found) == 50 and len({without_added(data) for data in found}) == 50


def test_pipelining_in_one_packet(shared_platform):
    marker = uuid.uuid4().hex
    data = message(marker)
    with socket.create_connection(("127.0.0.1", shared_platform.ports["smtp"]), timeout=30) as s:
        s.sendall(b"EHLO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n" + data +
                  b".\r\nQUIT\r\n")
        answers = b""
        while piece := s.recv(65536):
            answers += piece
    codes = [line[:3] for line in answers.split(b"\r\n") if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert len(find(shared_platform, "user@example.org", marker)) == 1


def test_bare_line_feed_is_refused(shared_platform):
    with socket.create_connection(("127.0.0.1", shared_platform.ports["smtp"]), timeout=30) as s:
        reader = s.makefile("rb")
        s.sendall(b"HELO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
        for _ in range(5):
            last = reader.readline()
        assert last.startswith(b"354")
        s.sendall(b"Subject: smuggled\r\n\r\nx\n.\nMAIL FROM:<b@example.net>\r\n.\r\n")
        assert reader.readline().startswith(b"550 5.6.11")


def test_chunking(shared_platform):
    marker = uuid.uuid4().hex
    data = message(marker, "chunked\n" * 100)
    with shared_platform.smtp() as smtp:
        smtp.ehlo()
        assert smtp.has_extn("chunking")
        smtp.mail("a@example.net")
        smtp.rcpt("user@example.org")
        half = len(data) // 2
        smtp.send(b"BDAT %d\r\n" % half + data[:half])
        assert smtp.getreply()[0] == 250
        smtp.send(b"BDAT %d LAST\r\n" % (len(data) - half) + data[half:])
        assert smtp.getreply()[0] == 250
    [stored] = find(shared_platform, "user@example.org", marker)
    assert without_added(stored) == data


def test_large_message(shared_platform):
    marker = uuid.uuid4().hex
    line = "0123456789abcdef" * 4 + "\n"
    data = message(marker, line * 200_000)
    assert len(data) > 12 << 20
    deliver(shared_platform, data, ["other@example.org"])
    [stored] = find(shared_platform, "other@example.org", marker)
    assert without_added(stored) == data


def test_too_large_is_refused_before_data(shared_platform):
    with shared_platform.smtp() as smtp:
        smtp.ehlo()
        code, text = smtp.mail("a@example.net", [f"SIZE={200 << 20}"])
        assert code == 552


def test_lost_connection_delivers_nothing(shared_platform):
    marker = uuid.uuid4().hex
    imap = shared_platform.imap("user@example.org")
    before = uids(imap)
    with socket.create_connection(("127.0.0.1", shared_platform.ports["smtp"]), timeout=30) as s:
        s.sendall(b"HELO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n" +
                  message(marker, "x\n" * 300_000))
    imap.noop()
    assert uids(imap) == before
    imap.logout()


def test_starttls_is_not_offered_without_certificate(shared_platform):
    with shared_platform.smtp() as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("starttls")
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.starttls()


def test_postmaster(new_platform, shared_platform):
    assert "event=postmaster.none" in shared_platform.log_text()
    platform = new_platform(start=False)
    text = platform.config.read_text()
    platform.config.write_text(text.replace("[server]\n", "[server]\npostmaster = user@example.org\n"))
    platform.start()
    assert "event=postmaster.none" not in platform.log_text()
    with platform.smtp() as smtp:
        smtp.ehlo()
        smtp.mail("a@example.net")
        for address in ("<postmaster>", "<Postmaster@example.org>", "<user@example.org>"):
            assert smtp.docmd("RCPT", f"TO:{address}")[0] == 250
        assert smtp.docmd("RCPT", "TO:<postmaster@elsewhere.example>")[0] == 550
        marker = uuid.uuid4().hex
        assert smtp.data(message(marker))[0] == 250
    assert len(find(platform, "user@example.org", marker)) == 1


def test_the_limit_counts_what_the_client_sends(new_platform):
    platform = new_platform(start=False)
    platform.config.write_text(platform.config.read_text() + "\n[limits]\nmessage_bytes_max = 300000\n")
    platform.start()
    start = message("long", "")
    for size, code in ((300_000, 250), (300_001, 552)):
        data = start + b"x" * (size - len(start) - 2) + b"\r\n"
        with platform.smtp() as smtp:
            smtp.ehlo()
            smtp.mail("a@example.net")
            smtp.rcpt("user@example.org")
            assert smtp.data(data)[0] == code
