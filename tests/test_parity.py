"""A unit that mends itself: parity in sidecars of sealed segments, made, checked by the independent reader, and used."""
import glob
import json
import os
import random
import shutil
import time

import pytest

import format_reader
from mailbox_state import bodies
from platform_under_test import Platform, message, ok

ADDRESS = "user@example.org"
BLOCK = 4096
K, M = 8, 3


def set_parity(platform, unit, value):
    text = platform.config.read_text()
    assert f"path = {unit}\n" in text
    platform.config.write_text(text.replace(f"path = {unit}\n", f"path = {unit}\nparity = {value}\n"))


def fill(platform, count):
    imap = platform.imap(ADDRESS)
    for n in range(count):
        ok(imap.append("INBOX", None, None, message(f"number {n}", os.urandom(20000).hex() + "\n")))
    imap.logout()


def contents(platform):
    imap = platform.imap(ADDRESS)
    found = [data for _, data in bodies(imap)]
    imap.logout()
    return found


def unit(platform, name):
    units = json.loads(platform.command("unit", "list", "--json").stdout)
    return next(u for u in units if u["name"] == name)


def volume(platform):
    return json.loads(platform.command("volume", "list", "--json").stdout)[0]


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def sealed(platform, name):
    """The unit's segment files that have a sidecar."""
    return [path[:-4] + ".seg" for path in sorted(glob.glob(str(platform.folder / name / "segments" / "*.par")))]


def read_blocks(path):
    with open(path, "rb") as file:
        data = file.read()
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def read_sidecar(segment_path):
    with open(segment_path[:-4] + ".par", "rb") as file:
        return format_reader.Sidecar(file.read())


def overwrite(path, first, count):
    """Garbage over a stretch of blocks."""
    assert os.path.getsize(path) >= (first + count) * BLOCK
    with open(path, "r+b") as file:
        file.seek(first * BLOCK)
        file.write(os.urandom(count * BLOCK))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Unit a has parity, b and c have none; all sidecars are made. Stopped."""
    platform = Platform(tmp_path_factory.mktemp("made") / "platform").init()
    platform.add_account(ADDRESS)
    platform.configure(segment_size="1M", scrub_rate="0")
    platform.start()
    fill(platform, 120)
    platform.stop()
    assert not sealed(platform, "a")
    set_parity(platform, "a", f"{K}+{M}")  # configured later: segments that are there get theirs too
    platform.start()
    fill(platform, 120)
    wait_until(lambda: unit(platform, "a")["lacks_parity"] == 0)
    assert unit(platform, "a")["parity"] == f"{K}+{M}" and "parity" not in unit(platform, "b")
    assert len(sealed(platform, "a")) > 4 and not sealed(platform, "b")
    assert platform.stop() == 0
    return platform


@pytest.fixture
def filled(made, tmp_path):
    """A copy of it, running."""
    shutil.copytree(made.folder, tmp_path / "platform")
    platform = Platform(tmp_path / "platform").start()
    wait_until(lambda: unit(platform, "a")["lacks_parity"] == 0)
    yield platform
    platform.stop()


def test_independent_reader(filled):
    """Sidecars are what docs/format.md says, and what is rebuilt from them is what was there."""
    filled.stop()
    some = random.Random(1)
    for path in sealed(filled, "a"):
        blocks, sidecar = read_blocks(path), read_sidecar(path)
        assert (sidecar.id.k, sidecar.id.m, sidecar.id.blocks) == (K, M, len(blocks))
        assert sidecar.length == M * -(-len(blocks) // K) and None not in sidecar.blocks
        head = format_reader.Block(blocks[0])
        assert sidecar.id.place == (head.volume, head.epoch_id, head.segment, head.generation)
        assert sidecar.id.data_blocks == format_reader.trailer(format_reader.Block(blocks[-1]))["data_blocks"]
        for index in some.sample(range(sidecar.length), min(8, sidecar.length)):
            assert format_reader.coded(sidecar.blocks[index].data) == sidecar.expected(blocks, index)
        for column in some.sample(range(sidecar.id.columns), min(4, sidecar.id.columns)):
            lost = [i for _, i in sidecar.rows(column)]
            lost = some.sample(lost, min(M, len(lost)))
            ruined = [None if i in lost else block for i, block in enumerate(blocks)]
            assert sidecar.rebuild(ruined, column) == {i: blocks[i] for i in lost}
            sidecar.blocks[column] = None
            if len(lost) == M:
                assert sidecar.rebuild(ruined, column) is None


@pytest.mark.parametrize("where", ["begin", "middle", "end"])
def test_stretch_lost_on_the_only_unit(filled, where):
    """As long a stretch of each segment overwritten as can be borne, the twin gone, and the index: all mail is there."""
    platform = filled
    before = contents(platform)
    platform.stop()
    originals = {}
    for path in sealed(platform, "a"):
        blocks = read_blocks(path)
        stretch = M * -(-len(blocks) // K)
        first = {"begin": 0, "middle": (len(blocks) - stretch) // 2, "end": len(blocks) - stretch}[where]
        overwrite(path, first, stretch)
        originals[path] = blocks
    shutil.rmtree(platform.folder / "b")
    shutil.rmtree(platform.folder / "state" / "index-main")
    platform.start()
    assert contents(platform) == before
    assert volume(platform)["blocks_rebuilt"] > 100
    # The spare gets whole copies of what a has in ruins; and a is mended, where it was read at once, else by a scrub.
    wait_until(lambda: unit(platform, "c")["state"] == "replica" and not unit(platform, "c").get("lacks_segments"))
    scrub = json.loads(platform.command("scrub", "--now", "--json").stdout)
    assert scrub["unmendable"] == 0 and volume(platform)["blocks_mended"] > 100
    platform.stop()
    for path, blocks in originals.items():
        assert read_blocks(path) == blocks
        assert read_blocks(path.replace("/a/segments/", "/c/segments/")) == blocks


def test_sidecar_damaged_and_gone(filled):
    """What happens to sidecars costs no unit its place; a scrub has them made again."""
    platform = filled
    paths = sealed(platform, "a")
    whole = {path: [b.data for b in read_sidecar(path).blocks] for path in paths}
    large = [path for path in paths if len(whole[path]) > 20]
    overwrite(large[0][:-4] + ".par", 3, 5)
    overwrite(large[2][:-4] + ".par", 0, 1)
    os.truncate(large[1][:-4] + ".par", 10 * BLOCK)
    scrub = json.loads(platform.command("scrub", "--now", "--json").stdout)
    assert scrub["unmendable"] == 0 and scrub["mended"] == 0
    wait_until(lambda: unit(platform, "a")["lacks_parity"] == 0)
    assert volume(platform)["parity_mended"] >= 6
    platform.stop()
    os.unlink(large[3][:-4] + ".par")
    platform.start()
    wait_until(lambda: unit(platform, "a")["lacks_parity"] == 0)
    assert unit(platform, "a")["state"] == "replica"
    platform.stop()
    assert sealed(platform, "a")[: len(paths)] == paths
    for path in paths:
        assert [b.data for b in read_sidecar(path).blocks] == whole[path]
