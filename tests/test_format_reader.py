"""The log is read by three readers that must agree: the program's walker, its footers, and tests/format_reader.py."""
import glob
import json
import os
import subprocess

import pytest

import format_reader
from platform_under_test import PROGRAM, message, ok

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("STERNPOST_BUILD", os.path.join(ROOT, "build"))


def agree(path, lines):
    """What C says of a segment file, line by line, is what the independent reader finds."""
    mine = list(format_reader.dump(path))
    theirs = [json.loads(line) for line in lines if line.strip()]
    assert [line["kind"] for line in mine] == [line["kind"] for line in theirs]
    for here, there in zip(mine, theirs):
        assert {key: here[key] for key in there} == there
    return mine


def agree_with_footer(path, mine):
    """The footer of a segment lists exactly the records of its data blocks."""
    with open(path, "rb") as file:
        segment = format_reader.Segment(file.read())
    foot = segment.trailer()
    if foot is None:
        return False
    table = segment.table()
    records = [line for line in mine if line["kind"] == "record"]
    assert len(table) == len(records)
    for entry, record in zip(table, records):
        assert {key: record[key] for key in entry} == entry
    assert foot["digest"] == segment.headers_digest(foot["data_blocks"])
    assert foot["first_lsn"] == (records[0]["lsn"] if records else 0)
    assert foot["last_lsn"] == (records[-1]["lsn"] if records else 0)
    return True


def test_checksums():
    assert format_reader.crc32c(b"123456789") == 0xE3069283
    assert format_reader.crc64(b"123456789") == 0x995DC9BBDF1939FA


def test_spans_example():
    assert format_reader.Cursor(bytes.fromhex("0203020400")).spans() == [[3, 5], [9, 9]]


def test_fixture(tmp_path):
    """A made-up volume, whole and damaged."""
    program = os.path.join(BUILD, "src", "recover", "recover_fixture")
    if not os.path.exists(program):
        pytest.skip("recover_fixture is not built")
    subprocess.run([program, str(tmp_path)], check=True)
    footers = damaged = 0
    for path in sorted(glob.glob(str(tmp_path / "*.seg"))):
        with open(path + ".json", encoding="utf-8") as file:
            mine = agree(path, file)
        if os.path.basename(path).startswith("damaged"):
            damaged += 1
        else:
            footers += agree_with_footer(path, mine)
    assert footers == 3 and damaged == 4


def agree_about_store(program, unit):
    """Every segment of a unit, for the black-box tests: call it on the store that a running server has made."""
    paths = sorted(glob.glob(os.path.join(unit, "segments", "*.seg")))
    assert paths
    previous, lsn = None, 0
    for path in paths:
        out = subprocess.run([program, "recover", "dump", path], check=True, stdout=subprocess.PIPE, text=True)
        mine = agree(path, out.stdout.splitlines())
        agree_with_footer(path, mine)
        head, end = mine[0], mine[-1]["end"]
        if previous and head["previous"]["generation"] == previous["generation"]:
            assert head["previous"] == previous
        for record in mine:
            if record["kind"] == "record" and record["block"] < end["blocks"]:
                assert record["lsn"] == lsn + 1 or record["type"] == "gap" or head["generation"]
                lsn = record["lsn"]
        previous = end
    with open(os.path.join(unit, "vote"), "rb") as file:
        vote = format_reader.read_vote(file.read())
    assert vote["accepted"] and vote["accepted"]["epoch_id"] == previous["epoch_id"]


def test_store(new_platform):
    """What a server wrote: several segments, sealed and open, with every kind of change an account sees."""
    platform = new_platform(start=False)
    platform.configure(segment_size="1M")
    platform.start()
    imap = platform.imap("user@example.org")
    for n in range(40):
        ok(imap.append("INBOX", r"(\Seen $Label)" if n % 3 else None, None, message(f"number {n}", os.urandom(40000).hex())))
    ok(imap.create("Folder"))
    ok(imap.subscribe("Folder"))
    ok(imap.copy("1:5", "Folder"))
    ok(imap.store("1:10", "+FLAGS", r"(\Answered)"))
    ok(imap.store("7", "+FLAGS", r"(\Deleted)"))
    ok(imap.expunge())
    ok(imap.rename("Folder", "Renamed"))
    ok(imap.delete("Renamed"))
    imap.logout()
    assert platform.stop() == 0
    for unit in ("a", "b"):
        agree_about_store(PROGRAM, str(platform.folder / unit))
