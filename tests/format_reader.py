#!/usr/bin/python3
"""An independent reader of Sternpost's log, written from docs/format.md alone.

    format_reader.py SEGMENT-FILE|SIDECAR-FILE ...

prints what it finds in each segment file as lines of JSON: the head, every record, the trailer, and how far the segment
is sound. It shares no code with the program, uses the standard library (and libzstd through ctypes), and is not fast.
"""
import ctypes
import ctypes.util
import hashlib
import json
import struct
import sys

BLOCK = 4096
HEADER = 96
PAYLOAD = BLOCK - HEADER
NO_RECORD = 0xFFFF
FIRST, LAST, HEAD, FOOTER = 1, 2, 4, 8


def make_table(polynomial):
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


CRC32C = make_table(0x82F63B78)
CRC64 = make_table(0xC96C5795D7870F42)


def checksum(table, ones, data):
    crc = ones
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ ones


def crc32c(data):
    return checksum(CRC32C, 0xFFFFFFFF, data)


def crc64(data):
    return checksum(CRC64, 0xFFFFFFFFFFFFFFFF, data)


def blake2b(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def hex64(value):
    return "%016x" % value


class Malformed(Exception):
    """Bytes that no writer makes."""


def unzstd(data, size):
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    out = ctypes.create_string_buffer(max(size, 1))
    got = library.ZSTD_decompress(out, size, data, len(data))
    if library.ZSTD_isError(got) or got != size:
        raise Malformed("zstd")
    return out.raw[:size]


class Cursor:
    """Reads fields one after another (section 1)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if size > len(self.data) - self.at:
            raise Malformed("short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size, signed=False):
        return int.from_bytes(self.take(size), "little", signed=signed)

    def u8(self):
        return self.number(1)

    def u16(self):
        return self.number(2)

    def u32(self):
        return self.number(4)

    def u64(self):
        return self.number(8)

    def varint(self):
        value = 0
        for place in range(10):
            byte = self.u8()
            if place == 9 and byte > 1:
                break
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise Malformed("varint")

    def later(self):
        """A varint that older writers did not write."""
        return self.varint() if self.at < len(self.data) else 0

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode("utf-8", "replace")

    def uuid(self):
        return self.take(16).hex()

    def list(self, read):
        count = self.varint()
        if count > len(self.data) - self.at:
            raise Malformed("list")
        return [read() for _ in range(count)]

    def spans(self):
        result, end = [], 0
        for i in range(self.varint()):
            first = end + self.varint()
            if i and first == end:
                raise Malformed("spans")
            end = first + self.varint()
            result.append([first, end])
        return result


# ---- Payloads (section 9) ----


def body(c):
    fields = {"codec": c.u8(), "cipher": c.u8()}
    c.take(6)
    fields["raw_bytes"] = c.u64()
    fields["raw_digest"] = c.take(32).hex()
    return fields


def message(c):
    fields = {"uid": c.u32(), "uidvalidity": c.u32(), "modseq": c.u64(), "date": c.number(8, True)}
    fields.update(zone=c.number(2, True), origin=c.u8())
    c.u8()
    fields.update(system_flags=c.u32(), header_bytes=c.u32(), size=c.u64(), raw_digest=c.take(32).hex())
    fields["body_lsns"] = c.list(c.varint)
    fields["keywords"] = c.list(c.text)
    fields.update(origin_id=c.text(), wrapped_key=c.bytes().hex(), address=c.text(), path=c.text())
    fields.update(parts=parts(Cursor(c.bytes())), envelope=c.text(), bodystructure=c.text())
    if fields["uid"] == 0 or fields["header_bytes"] > fields["size"]:
        raise Malformed("message")
    fields["bodies"] = len(fields["body_lsns"])
    return fields


def parts(c):
    if not c.data:
        return []
    if c.u8() != 1:
        raise Malformed("part table")
    count, size = c.varint(), c.varint()
    result, open_parts = [], []  # of an open part: [index, where its next child may begin]
    for index in range(count):
        kind, start = c.u8(), 0
        if index:
            for _ in range(c.varint()):
                open_parts.pop()
            start = open_parts[-1][1]
        header_at = start + c.varint()
        header, length, lines = c.varint(), c.varint(), c.varint()
        end = header_at + header + length
        if kind > 2 or end > size:
            raise Malformed("part")
        if index:
            open_parts[-1][1] = end
        names = [c.text() for _ in range(4)]
        result.append({"kind": kind, "parent": open_parts[-1][0] if index else 0, "header_offset": header_at,
                       "header_bytes": header, "body_bytes": length, "lines": lines, "type": names[0],
                       "subtype": names[1], "encoding": names[2], "charset": names[3]})
        open_parts.append([index, header_at + header])
    return result


def flags(c):
    fields = {"modseq": c.u64(), "op": c.u8(), "system_flags": c.u32(), "keywords": c.list(c.text)}
    fields["uids"] = c.spans()
    return fields


def catalogue(c):
    fields = {"base": c.u8(), "uidvalidity": c.u32(), "uidnext": c.u32(), "highestmodseq": c.u64()}
    fields.update(messages=c.u32(), path=c.text(), present=c.spans(), gone=c.spans())
    return fields


def mailbox(c):
    fields = {"id": c.u32(), "uidvalidity": c.u32(), "modseq": c.u64(), "special_use": c.u32()}
    fields.update(path=c.text(), old_path=c.text(), lead=c.later())
    return fields


def account(c):
    return {"id": c.uuid(), "address": c.text(), "merged": c.later()}


def credential(c):
    fields = {"argon2id": c.text(), "scram_iterations": c.u32()}
    fields.update({name: c.bytes().hex() for name in ("scram_salt", "scram_stored_key", "scram_server_key")})
    return fields


def manifest(c):
    def segment():
        names = ("segment", "generation", "blocks", "first_lsn", "last_lsn")
        fields = {name: c.varint() for name in names}
        fields["digest"] = c.take(32).hex()
        return fields

    return {"base": c.u8(), "live": c.list(segment), "retired": c.list(segment), "erased": c.list(c.uuid)}


def tails(c):
    def chain():
        return {"account": c.uuid(), "mailbox": c.varint(), "lsn": c.varint(), "uidnext": c.varint(), "messages": c.varint()}

    return {"part": c.u8(), "tails": c.list(chain)}


def gap(c):
    return {"modseq_skip": c.varint(), "uidnext_skip": c.varint(), "reason": c.text(), "lsns": c.spans(), "flags": c.later()}


def merge(c):
    fields = {"gap": c.u64(), "unit": c.uuid(), "branch": c.u64(), "epoch_id": c.u64(), "epoch_counter": c.u32()}
    fields.update(lsn=c.u64(), complete=c.u8())
    return fields


def guard(c):
    fields = {"id": c.uuid(), "event": c.u8(), "operation": c.u8(), "approvals": c.u8()}
    c.u8()
    fields.update(uid=c.u32(), cooling_ms=c.u64(), waited_ms=c.u64(), subject_id=c.uuid(), who=c.text(),
                  subject=c.text(), text=c.text())
    return fields


def dropped(c):
    return {"modseq": c.u64(), "uidnext": c.u32(), "uids": c.spans(), "lsns": c.spans()}


def acl(c):
    fields = {"acl_mailbox": c.u32(), "grantee": c.uuid(), "acl_flags": c.u8(), "rights": c.u32()}
    fields["address"] = c.text()
    return fields


def erase(c):
    return {"erased": c.uuid(), "erased_mailbox": c.u32(), "uids": c.spans(), "who": c.text(), "why": c.text()}


TYPES = {
    1: ("body", body),
    2: ("body-chunk", body),
    3: ("message", message),
    4: ("flags", flags),
    5: ("expunge", lambda c: {"modseq": c.u64(), "uids": c.spans()}),
    6: ("catalogue", catalogue),
    7: ("unprotect", lambda c: {}),
    16: ("mailbox", mailbox),
    17: ("mailbox-rename", mailbox),
    18: ("mailbox-delete", mailbox),
    19: ("subscribe", lambda c: {"subscribed": c.u8(), "path": c.text()}),
    20: ("credential", credential),
    22: ("acl", acl),
    32: ("account", account),
    33: ("account-remove", account),
    34: ("domain", lambda c: {"name": c.text()}),
    48: ("manifest", manifest),
    49: ("gap", gap),
    50: ("tails", tails),
    51: ("dropped", dropped),
    52: ("clock", lambda c: {"elapsed_ms": c.u64()}),
    53: ("guard", guard),
    54: ("erase", erase),
    55: ("merge", merge),
}


# ---- Records (section 8) ----


def record_header(data):
    magic, kind, flag, size, lsn, time, account, previous, number, _, crc = struct.unpack("<2sBBIQQ16sQIQI", data)
    if magic != b"SR" or size > 1 << 22 or not 0 < lsn < 1 << 63 or previous >= lsn:
        return None
    name = TYPES[kind][0] if kind in TYPES else "unknown"
    fields = {"kind": "record", "type": name, "flags": flag, "lsn": lsn, "time": time, "account": account.hex(),
              "mailbox": number, "previous": previous, "payload_bytes": size}
    return fields, kind, size, crc


def record_payload(fields, kind, payload):
    fields["digest"] = blake2b(payload)
    if kind in TYPES:
        fields.update(TYPES[kind][1](Cursor(payload)))


# ---- Blocks (section 3) ----


class Block:
    def __init__(self, data):
        self.data = data
        (magic, self.version, self.flags, self.size, self.volume, self.epoch_id, self.segment, self.generation,
         self.index, self.batch, self.first_lsn, self.first_offset, _, self.epoch_counter, self.chain, _, _,
         crc) = struct.unpack("<4sBBH16sQQIIQQHHIQQII", data[:HEADER])
        self.valid = (
            magic == b"SPB1"
            and crc == crc32c(data[:92] + bytes(4) + data[96:])
            and self.version == 1
            and self.size <= PAYLOAD
            and self.segment != 0
            and (self.first_lsn == 0) == (self.first_offset == NO_RECORD)
            and (self.first_lsn == 0 or self.first_offset < self.size)
        )
        self.payload = data[HEADER : HEADER + self.size]

    def is_data(self):
        return not self.flags & (HEAD | FOOTER)


def segment_head(block):
    """Section 6; None when it is not a head that can be read."""
    if not block.flags & HEAD or block.index != 0:
        return None
    c = Cursor(block.payload)
    try:
        if c.u32() != 1:
            return None
        head = {"kind": "head", "segment": block.segment, "generation": block.generation,
                "epoch_id": hex64(block.epoch_id), "epoch_counter": block.epoch_counter, "batch": block.batch,
                "epoch_begins": c.u32() != 0, "time": c.u64(), "next_lsn": c.u64(), "segment_bytes": c.u64(),
                "min_copies": c.u32()}
        head["previous"] = {"epoch_id": hex64(c.u64()), "epoch_counter": c.u32(), "segment": c.u64(),
                            "generation": c.u32(), "blocks": c.u32(), "lsn": c.u64(), "batch": c.u64(),
                            "chain": hex64(c.u64())}
        head.update(manifest_segment=c.u64(), manifest_lsn=c.u64())
        units = []
        for _ in range(c.u8()):
            unit = {"unit": c.uuid(), "role": c.u8()}
            unit["ranges"] = [[c.u64(), c.u64()] for _ in range(c.u8())]
            if len(unit["ranges"]) > 16:
                return None
            units.append(unit)
        if len(units) > 16:
            return None
        head.update(members=len(units), units=units)
        return head
    except Malformed:
        return None


def trailer(block):
    """Section 7; None when it is none."""
    if block.flags & (FOOTER | LAST) != FOOTER | LAST:
        return None
    c = Cursor(block.payload)
    try:
        if c.take(4) != b"SPFT" or c.u32() != 1:
            return None
        found = {"kind": "trailer", "first_lsn": c.u64(), "last_lsn": c.u64(), "records": c.u64(),
                 "data_blocks": c.u32(), "table_blocks": c.u32(), "table_bytes": c.u64(),
                 "table_raw_bytes": c.u64(), "digest": c.take(32).hex()}
    except Malformed:
        return None
    good = (found["table_bytes"] <= 1 << 28 and found["data_blocks"] + found["table_blocks"] == block.index
            and found["table_blocks"] == (found["table_bytes"] + PAYLOAD - 1) // PAYLOAD)
    return found if good else None


class Segment:
    """A segment file, whole or ruined. blocks[i] is None where block i is not valid or not in its place."""

    def __init__(self, data):
        every = [Block(data[at : at + BLOCK]) for at in range(0, len(data) - BLOCK + 1, BLOCK)]
        first = next((b for b in every if b.valid), None)
        if first is None:
            raise Malformed("there is no valid block")
        place = (first.volume, first.segment, first.generation)
        self.id = first
        self.blocks = [
            b if b.valid and (b.volume, b.segment, b.generation, b.index) == place + (i,) else None
            for i, b in enumerate(every)
        ]

    def data_block(self, index):
        block = self.blocks[index] if index < len(self.blocks) else None
        return block if block and block.is_data() else None

    def gather(self, index, offset, size):
        """size bytes of the stream from there, and where they end; None where a block is lost (section 4)."""
        block, found = self.data_block(index), b""
        while True:
            piece = block.payload[offset : offset + size - len(found)]
            found += piece
            offset += len(piece)
            if len(found) == size:
                return found, index, offset
            following = self.data_block(index + 1)
            if (block.flags & LAST or following is None or following.batch != block.batch
                    or following.flags & FIRST):
                return None
            block, index, offset = following, index + 1, 0

    def record(self, index, offset):
        got = self.gather(index, offset, 64)
        head = got and record_header(got[0])
        if not head:
            return None
        fields, kind, size, crc = head
        whole = self.gather(got[1], got[2], size)
        if whole is None or crc32c(got[0][:60] + whole[0]) != crc:
            return None
        fields.update(block=index, offset=offset)
        record_payload(fields, kind, whole[0])
        return fields, whole[1], whole[2]

    def records(self, start=0):
        """Every record that touches no lost block. Joins again at the next block in which one begins."""
        index, offset, joined = start, 0, False
        while index < len(self.blocks):
            block = self.data_block(index)
            if block is None:
                index, joined = index + 1, False
                continue
            if not joined:
                if block.first_lsn == 0:
                    index += 1
                    continue
                offset, joined = block.first_offset, True
            if offset >= block.size:
                joined = not block.flags & LAST
                index, offset = index + 1, 0
                continue
            found = self.record(index, offset)
            if found is None:
                index, joined = index + 1, False
                continue
            fields, index, offset = found
            yield fields

    def head(self):
        return segment_head(self.blocks[0]) if self.blocks and self.blocks[0] else None

    def trailer(self):
        for block in reversed(self.blocks):
            found = block and trailer(block)
            if found:
                return found
        return None

    def end(self):
        """The sound end (section 5)."""
        end = {"segment": self.id.segment, "generation": self.id.generation, "epoch_id": hex64(0),
               "epoch_counter": 0, "blocks": 0, "lsn": 0, "batch": 0, "chain": hex64(0)}
        head = self.head()
        if head is None:
            return end
        first = self.blocks[0]
        chain, batch, is_open = crc64(first.data), first.batch - 1, False
        end.update(epoch_id=head["epoch_id"], epoch_counter=first.epoch_counter, blocks=1,
                   lsn=head["next_lsn"] - 1, batch=batch, chain=hex64(chain))
        for index in range(1, len(self.blocks)):
            block = self.data_block(index)
            if block is None or block.epoch_id != first.epoch_id or block.chain != chain:
                break
            if block.flags & FIRST:
                if is_open or block.batch != batch + 1:
                    break
                batch, is_open = block.batch, True
            elif not is_open or block.batch != batch:
                break
            chain = crc64(block.data)
            if block.flags & LAST:
                is_open = False
                end.update(blocks=index + 1, batch=batch, chain=hex64(chain))
        whole = Segment.__new__(Segment)
        whole.blocks = self.blocks[: end["blocks"]]
        for start in range(end["blocks"] - 1, 0, -1):
            if whole.blocks[start].first_lsn:
                for fields in whole.records(start):
                    end["lsn"] = fields["lsn"]
                break
        return end

    def table(self):
        """The footer's entries (section 7), or None when there is no footer that can be read."""
        found = self.trailer()
        if found is None:
            return None
        first = found["data_blocks"]
        blocks = self.blocks[first : first + found["table_blocks"]]
        if any(b is None or not b.flags & FOOTER for b in blocks):
            return None
        data = b"".join(b.payload for b in blocks)
        if len(data) != found["table_bytes"]:
            return None
        c, entries = Cursor(unzstd(data, found["table_raw_bytes"])), []
        for _ in range(found["records"]):
            raw = c.take(64)
            fields, kind, size, crc = record_header(raw)
            fields.update(block=c.u32(), offset=c.u16())
            kept = c.take(c.u32())
            if kind in (1, 2):
                if len(kept) != min(48, size):
                    raise Malformed("kept bytes")
            elif len(kept) != size or crc32c(raw[:60] + kept) != crc:
                raise Malformed("entry")
            else:
                record_payload(fields, kind, kept)
            entries.append(fields)
        if c.at != len(c.data):
            raise Malformed("table")
        return entries

    def headers_digest(self, count):
        return blake2b(b"".join(b.data[:HEADER] for b in self.blocks[:count]))


# ---- Parity (section 16) ----


def gf_table(factor):
    """What multiplying by factor makes of each byte."""
    table = []
    for value in range(256):
        product, a, b = 0, factor, value
        while b:
            product ^= a if b & 1 else 0
            a, b = a << 1 ^ (0x11D if a & 0x80 else 0), b >> 1
        table.append(product)
    return bytes(table)


GF = [gf_table(factor) for factor in range(256)]
INVERSE = [0] + [GF[value].index(1) for value in range(1, 256)]
CODED = ((5, 8), (48, 66), (72, 80), (92, BLOCK))


def coded(data):
    out = bytearray(BLOCK)
    for begin, end in CODED:
        out[begin:end] = data[begin:end]
    return bytes(out)


def gf_sum(terms):
    """The sum of (factor, bytes)."""
    total = 0
    for factor, data in terms:
        total ^= int.from_bytes(data.translate(GF[factor]), "little")
    return total.to_bytes(BLOCK, "little")


def gf_invert(matrix):
    """Gauss and Jordan."""
    size = len(matrix)
    rows = [list(row) + [int(i == k) for k in range(size)] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        scale = GF[INVERSE[rows[i][i]]]
        rows[i] = [scale[value] for value in rows[i]]
        for k in range(size):
            factor = GF[rows[k][i]] if k != i else None
            if factor:
                rows[k] = [value ^ factor[mine] for value, mine in zip(rows[k], rows[i])]
    return [row[size:] for row in rows]


class ParityBlock:
    def __init__(self, data):
        self.data = data
        magic, self.version = struct.unpack("<4sB", data[:5])
        self.place = struct.unpack("<16sQQI", data[8:44])  # volume, epoch_id, segment, generation
        self.index, = struct.unpack("<I", data[44:48])
        self.k, self.m, self.epoch_counter = struct.unpack("<BBI", data[66:72])
        self.blocks, self.data_blocks, crc = struct.unpack("<III", data[80:92])
        self.columns = -(-self.blocks // self.k) if self.k else 0
        self.valid = (
            magic == b"SPP1"
            and crc == crc32c(data[:88] + bytes(4) + data[92:])
            and self.version == 1
            and self.place[2] != 0
            and 1 <= self.k <= 128
            and 1 <= self.m <= 32
            and 1 <= self.data_blocks <= self.blocks <= 1 << 26
            and self.index < self.m * self.columns
        )
        self.shape = (self.place, self.k, self.m, self.blocks, self.data_blocks, self.epoch_counter)


class Sidecar:
    """blocks[i] is None where a parity block is not valid or not in its place."""

    def __init__(self, data):
        every = [ParityBlock(data[at : at + BLOCK]) for at in range(0, len(data) - BLOCK + 1, BLOCK)]
        first = next((b for b in every if b.valid), None)
        if first is None:
            raise Malformed("there is no valid parity block")
        self.id, self.length = first, len(every)
        self.blocks = [b if b.valid and b.shape == first.shape and b.index == i else None for i, b in enumerate(every)]

    def factor(self, parity_row, row):
        return INVERSE[self.id.k + parity_row ^ row]

    def rows(self, column):
        """(row, index) of the segment's blocks in the column."""
        return [(row, row * self.id.columns + column) for row in range(self.id.k)
                if row * self.id.columns + column < self.id.blocks]

    def expected(self, segment, index):
        """The coded bytes that the parity block has if the segment's are right."""
        row, column = divmod(index, self.id.columns)
        return gf_sum((self.factor(row, r), coded(segment[i])) for r, i in self.rows(column))

    def rebuild(self, segment, column):
        """{index: bytes} of what is lost of the column (None in segment), or None: there is too little left."""
        lost = [(r, i) for r, i in self.rows(column) if segment[i] is None]
        sound = [(r, coded(segment[i])) for r, i in self.rows(column) if segment[i] is not None]
        parity = [(p, self.blocks[p * self.id.columns + column]) for p in range(self.id.m)]
        parity = [(p, coded(block.data)) for p, block in parity if block][: len(lost)]
        if len(parity) < len(lost):
            return None
        inverse = gf_invert([[self.factor(p, r) for r, _ in lost] for p, _ in parity])
        rests = [gf_sum([(1, data)] + [(self.factor(p, r), block) for r, block in sound]) for p, data in parity]
        found = {}
        for (_, index), line in zip(lost, inverse):
            data = bytearray(gf_sum(zip(line, rests)))
            data[:5] = b"SPB1\x01"
            data[8:48] = struct.pack("<16sQQII", *self.id.place, index)
            data[68:72] = struct.pack("<I", self.id.epoch_counter)
            block = Block(bytes(data))
            if not block.valid or (block.flags & FOOTER != 0) != (index >= self.id.data_blocks):
                raise Malformed("what was rebuilt is no block")
            found[index] = block.data
        return found


def dump_sidecar(data):
    sidecar = Sidecar(data)
    first = sidecar.id
    yield {"kind": "sidecar", "segment": first.place[2], "generation": first.place[3], "epoch_id": hex64(first.place[1]),
           "epoch_counter": first.epoch_counter, "data_rows": first.k, "parity_rows": first.m, "blocks": first.blocks,
           "data_blocks": first.data_blocks, "sound": sum(b is not None for b in sidecar.blocks),
           "length": first.m * first.columns}


def read_vote(data):
    """Section 11."""
    c = Cursor(data)
    vote = {"promised_counter": c.u64(), "promised_id": hex64(c.u64()), "accepted": None}
    if c.u32() != crc32c(data[:16]):
        raise Malformed("vote")
    if len(data) > 20:
        block = Block(c.take(BLOCK))
        vote["accepted"] = segment_head(block) if block.valid else None
    return vote


def dump(path):
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".par"):
        yield from dump_sidecar(data)
        return
    segment = Segment(data)
    head, foot = segment.head(), segment.trailer()
    if head:
        yield head
    yield from segment.records()
    if foot:
        yield foot
    yield {"kind": "end", "end": segment.end()}


def main(paths):
    for path in paths:
        for line in dump(path):
            print(json.dumps(line, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1:])
