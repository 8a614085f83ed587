#!/usr/bin/env python3
"""Reads a kekbit channel file (format 2.0-draft), as FORMAT.md describes it. Python's standard library only.

    read_channel.py FILE             every record as a line of JSON, then a line that says how it ends
    read_channel.py --end FILE       only the last line, found through the index
    read_channel.py --header FILE    what the header says, one line for each field
    read_channel.py --check POS FILE how the check of the frame at POS is computed, step by step

It reads files that nobody writes at the moment, and by the rules for another boot: it asks for no locks, no boot id and
no inode. Exit code 0, or 1 if the file is damaged, or 3 if it is no channel.
"""

import json
import sys

MASK32, MASK64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF
PAGE = 4096
NEVER = 1 << 64
RECORD, BATCH, PADDING, CLOSED, FULL, ABANDONED = 1, 2, 3, 4, 5, 6
ENDS = {CLOSED: "closed", FULL: "full", ABANDONED: "abandoned"}
TICK_NANOS = [1, 1_000, 1_000_000, 1_000_000_000]


class NotAChannel(Exception):
    """The file cannot be read as a channel of this version."""


class Damage(Exception):
    """What is at a position is not what was written."""

    def __init__(self, what, position, why):
        super().__init__(why)
        self.what, self.position, self.why = what, position, why


def number(data, at, size):
    return int.from_bytes(data[at : at + size], "little")


def u16(data, at):
    return number(data, at, 2)


def u32(data, at):
    return number(data, at, 4)


def u64(data, at):
    return number(data, at, 8)


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


def make_crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F6_3B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = make_crc_table()


def crc32c_padded(data):
    """CRC-32C of `data` and as many zeros as complete its last 8-byte word."""
    crc = MASK32
    for byte in data + bytes(-len(data) % 8):
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ MASK32


def mix_steps(salt, position, kl):
    """The values of `a` and `b`; the check takes the upper half of `b`."""
    a = (position ^ salt[0]) * 0x9E37_79B9_7F4A_7C15 & MASK64
    b = ((a ^ a >> 32 ^ kl) + salt[1] & MASK64) * 0xD6E8_FEB8_6659_FD93 & MASK64
    return a, b


def mix(salt, position, kl):
    return mix_steps(salt, position, kl)[1] >> 32


def frame_len(payload_len):
    return 8 + round_up(payload_len, 8)


def undo_lz4(body, length):
    """What the LZ4 stage was given when it made `body`."""
    if length == 0:
        return body
    if length > min(255 * len(body), (1 << 28) - 1):
        raise ValueError("so many bytes cannot come from this block")
    out, at = bytearray(), 0

    def more(half):
        """A length: half a token, and if that is full, the bytes that follow up to one that is not."""
        nonlocal at
        total = half
        while half == 15:
            total += body[at]
            at += 1
            if body[at - 1] != 255:
                break
        return total

    try:
        while True:
            token = body[at]
            at += 1
            literals = more(token >> 4)
            if at + literals > len(body) or len(out) + literals > length:
                raise ValueError("literals reach too far")
            out += body[at : at + literals]
            at += literals
            if at == len(body):
                break
            distance = body[at] | body[at + 1] << 8
            at += 2
            match = 4 + more(token & 15)
            if not 1 <= distance <= len(out) or len(out) + match > length:
                raise ValueError("a match reaches too far")
            for _ in range(match):
                out.append(out[-distance])
    except IndexError:
        raise ValueError("the block is cut short") from None
    if literals == 0 or len(out) != length:
        raise ValueError("the block does not end where it should")
    return bytes(out)


class Stage:
    def __init__(self, value):
        if len(value) < 20:
            raise NotAChannel("a stage attribute is cut short")
        self.id, self.version, flags = u32(value, 0), u16(value, 4), u16(value, 6)
        self.prefix_len, self.suffix_len = u32(value, 8), u32(value, 12)
        if flags & ~1:
            raise NotAChannel("a stage has unknown flags")
        self.replaces = flags == 1
        name_end = 20 + u16(value, 16)
        if name_end > len(value):
            raise NotAChannel("a stage's name is cut short")
        self.name = text(value[20:name_end])
        self.params = value[name_end:]


def text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise NotAChannel("an attribute is not UTF-8") from None


class Header:
    def __init__(self, page):
        if len(page) < 16 or page[:8] != b"*KEKBIT*":
            raise NotAChannel("not a channel")
        self.version = u64(page, 8)
        if self.version >> 48 != 2:
            raise NotAChannel(f"version {self.version >> 48}.{self.version >> 32 & 0xFFFF}")
        if len(page) < PAGE:
            raise NotAChannel("the header is cut short")
        if crc32c_padded(page[:4092]) != u32(page, 4092):
            raise NotAChannel("the header's checksum does not match")
        self.features = u64(page, 192), u64(page, 200), u64(page, 208)
        if self.features[0] & ~1:
            raise NotAChannel(f"unknown features {self.features[0] & ~1:#x}")
        self.writer_id, self.channel_id = u64(page, 16), u64(page, 24)
        self.capacity, self.max_record_len = u64(page, 32), u32(page, 40)
        self.tick, self.checksum = page[44], page[45]
        self.timeout, self.created = u64(page, 48), u64(page, 56)
        self.first_sequence = u64(page, 64)
        self.salt = u64(page, 72), u64(page, 80)
        self.boot_id, self.inode = page[88:104], u64(page, 104)
        regions = [(u64(page, at), u64(page, at + 8)) for at in (112, 128, 144, 160)]
        self.index_interval = u64(page, 176)
        self.check_ranges(regions)
        _, (self.control, _), (self.index, self.index_len), (self.data, _) = regions
        self.content_type, self.schema, self.stages, self.user = None, None, [], []
        attributes_len = u32(page, 216)
        if attributes_len > 3864:
            raise NotAChannel("the attributes are too long")
        self.read_attributes(page[224 : 224 + attributes_len])
        self.lay_out_stages()

    def check_ranges(self, regions):
        if not 4096 <= self.capacity <= 1 << 45 or self.capacity % PAGE:
            raise NotAChannel("the capacity is out of range")
        if self.max_record_len > min(self.capacity - 16, (1 << 28) - 1):
            raise NotAChannel("the record length is out of range")
        if self.tick > 3 or self.checksum > 1:
            raise NotAChannel("the tick unit or the kind of checksum is unknown")
        if self.first_sequence > 1 << 63 or self.index_interval < PAGE:
            raise NotAChannel("the first sequence or the index interval is out of range")
        end = 0
        for (at, length), expected in zip(regions, (PAGE, PAGE, None, self.capacity)):
            if at < end or at >= 1 << 45 or at % PAGE or length % PAGE or length > 1 << 45:
                raise NotAChannel("the regions overlap or are not aligned")
            if expected is not None and length != expected:
                raise NotAChannel("a region has the wrong length")
            end = at + length
        if regions[0][0] != 0:
            raise NotAChannel("the header is not at the beginning")

    def read_attributes(self, data):
        while data:
            if len(data) < 4 or 4 + u16(data, 2) > len(data):
                raise NotAChannel("an attribute is cut short")
            tag, length = u16(data, 0), u16(data, 2)
            value = data[4 : 4 + length]
            if tag == 1:
                self.content_type = text(value)
            elif tag == 2:
                self.schema = text(value)
            elif tag == 3:
                self.stages.append(Stage(value))
            elif tag == 4:
                if length < 2 or 2 + u16(value, 0) > length:
                    raise NotAChannel("a user attribute is cut short")
                key_end = 2 + u16(value, 0)
                self.user.append((text(value[2:key_end]), text(value[key_end:])))
            data = data[round_up(4 + length, 8) :]

    def lay_out_stages(self):
        """How many bytes the stages add on either side, up to the first that replaces."""
        self.prefix = self.suffix = 0
        for stage in self.stages:
            if (stage.id, stage.version, stage.prefix_len) == (1, 1, 8):
                if not stage.params or stage.params[0] > 3:
                    raise NotAChannel("a timestamp has an unknown unit")
        for stage in self.stages:
            self.prefix += stage.prefix_len
            self.suffix += stage.suffix_len
            if self.prefix + self.suffix > self.max_record_len:
                raise NotAChannel("the stages add more than a record can have")
            if stage.replaces:
                break

    def take_apart(self, stored):
        """The payload of a stored record, and what the known stages tell of it, the outermost of each kind."""
        told = {}
        for stage in self.stages:
            end = len(stored) - stage.suffix_len
            if end < stage.prefix_len:
                raise ValueError("the record is shorter than its stages make it")
            prefix, body = stored[: stage.prefix_len], stored[stage.prefix_len : end]
            known = stage.version == 1 and stage.prefix_len == 8
            if known and stage.id == 1:
                told.setdefault("ts", u64(prefix, 0) * TICK_NANOS[stage.params[0]])
            elif known and stage.id == 2:
                told.setdefault("stamp", u64(prefix, 0))
            elif known and stage.id == 3:
                told.setdefault("corr", u64(prefix, 0))
            if stage.replaces:
                lz4 = (4, 1, 4, 0)
                if (stage.id, stage.version, stage.prefix_len, stage.suffix_len) != lz4:
                    # Only its own handler can undo it, and only that finds what is inside.
                    return stored, told
                body = undo_lz4(body, u32(prefix, 0))
            stored = body
        return stored, told

    def index_slots(self):
        slots = max(128, 2 * (self.capacity // self.index_interval) + 2)
        return min(slots, self.index_len // 32)


class Channel:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.file = file.read()
        self.header = header = Header(self.file[:PAGE])
        if len(self.file) < header.data + 8:
            raise NotAChannel("the file is cut short")
        # Bytes of the data region that the file has, in whole words.
        self.bound = (min(len(self.file), header.data + header.capacity) - header.data) // 8 * 8
        self.least = header.prefix + header.suffix
        self.believe()

    def believe(self):
        """The rules for another boot: see "What a reader may believe" in FORMAT.md."""
        self.synced = self.read_synced()
        self.entries_below = self.synced
        last = self.last_entry()
        if last["terminal"]:
            self.written = max(last["position"], self.synced)
            self.sound = self.believed = NEVER
        else:
            self.written = self.sound = self.synced
            self.believed = NEVER if self.header.checksum == 1 else self.synced

    def read_synced(self):
        best_counter, synced = -1, 0
        for at in (2048, 3072):
            slot = self.file[self.header.control + at :][:24]
            check = crc32c_padded(slot[:16]) ^ mix(self.header.salt, MASK64, 0)
            if u32(slot, 16) == check and u32(slot, 20) == 0 and best_counter <= u64(slot, 8) < 1 << 63:
                best_counter, synced = u64(slot, 8), u64(slot, 0)
        return min(synced, self.header.capacity)

    def entry(self, at):
        """The entry at this place of the file, or None if there is none that may be trusted."""
        data = self.file[at : at + 32]
        position, sequence, time, mark = u64(data, 0), u64(data, 8), u64(data, 16), u32(data, 28)
        if mark not in (1, 2):
            return None
        if crc32c_padded(data[:24]) ^ mix(self.header.salt, MASK64, mark) != u32(data, 24):
            return None
        records = sequence - self.header.first_sequence
        if position % 8 or position >= self.entries_below or position + 8 > self.bound:
            return None
        if not 0 <= records <= position // 8:
            return None
        return {"position": position, "sequence": sequence, "time": time, "terminal": mark == 2}

    def last_entry(self):
        header = self.header
        best = {
            "position": 0,
            "sequence": header.first_sequence,
            "time": header.created,
            "terminal": False,
        }
        low, high = 0, header.index_slots()
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(header.index + middle * 32)
            if entry is None:
                high = middle
            else:
                if entry["position"] >= best["position"]:
                    best = entry
                low = middle + 1
        for slot in range(16):
            entry = self.entry(header.control + 512 + slot * 32)
            if entry is not None and entry["position"] > best["position"]:
                best = entry
        return best

    def word(self, position):
        return u64(self.file, self.header.data + position)

    def payload(self, position, length):
        begin = self.header.data + position + 8
        return self.file[begin : begin + length]

    def passes(self, position, kl, check, payload):
        crc = crc32c_padded(payload) if self.header.checksum == 1 else 0
        return check == crc ^ mix(self.header.salt, position, kl)

    def possible_record(self, kl):
        return kl >> 28 == RECORD and self.least <= kl & 0xFFF_FFFF <= self.header.max_record_len

    def inner_frames(self, payload):
        """The payloads of the records of a batch, or None if it is not what it says."""
        if len(payload) < 8 or len(payload) % 8 or u32(payload, 4) != 0:
            return None
        records, at = [], 8
        for _ in range(u32(payload, 0)):
            if at + 8 > len(payload):
                return None
            kl, check = u32(payload, at + 4), u32(payload, at)
            end = at + frame_len(kl & 0xFFF_FFFF)
            if not self.possible_record(kl) or check != 0 or end > len(payload):
                return None
            records.append(payload[at + 8 : at + 8 + (kl & 0xFFF_FFFF)])
            at = end
        return records if at == len(payload) else None

    def walk(self, position, sequence):
        """Yields (sequence, position, stored bytes) of each record; returns how it ends."""

        def ends(state, sealed):
            return {"end": state, "pos": position, "next": sequence, "sealed": sealed}

        while True:
            word = self.word(position)
            if word == 0:
                if position < self.written:
                    raise Damage("corrupt", position, "nothing is written here")
                return ends("abandoned", False)
            if position >= self.believed:
                return ends("torn", False)
            kl, check = word >> 32, word & MASK32
            kind, length = kl >> 28, kl & 0xFFF_FFFF
            end = position + frame_len(length)
            terminal = kind in ENDS
            problem, records = None, []
            if terminal and length != 0:
                problem = "a terminal frame with a payload"
            elif not terminal and end + 8 > self.bound:
                problem = "a frame reaches past the end of the file"
            else:
                payload = self.payload(position, length)
                if not self.passes(position, kl, check, payload):
                    problem = "a frame does not pass its check"
                elif kind == RECORD:
                    records = [payload]
                    if not self.possible_record(kl):
                        problem = "a record has an impossible length"
                elif kind == BATCH:
                    records = self.inner_frames(payload)
                    if records is None:
                        problem = "a batch does not hold what it says"
                elif terminal:
                    return ends(ENDS[kind], True)
                elif kind != PADDING and kind < 12:
                    raise Damage(f"unknown kind {kind}", position, "a newer version may read it")
            if problem is not None:
                if position < self.sound:
                    raise Damage("corrupt", position, problem)
                return ends("torn", False)
            for record in records:
                yield sequence, position, record
                sequence += 1
            position = end

    def describe(self, sequence, position, stored):
        """A record as an object for JSON."""
        try:
            payload, told = self.header.take_apart(stored)
        except ValueError as why:
            raise Damage("corrupt", position, str(why)) from None
        out = {"seq": sequence, "pos": position, "len": len(payload)}
        if len(payload) > 64 and payload.count(payload[0]) == len(payload):
            out["fill"] = payload[:1].hex()
        else:
            out["hex"] = payload.hex()
        for key in ("ts", "stamp", "corr"):
            if key in told:
                out[key] = told[key]
        return out


def emit(line):
    print(json.dumps(line, separators=(",", ":")))


def print_records(channel, only_end):
    start = channel.last_entry() if only_end else {"position": 0, "sequence": channel.header.first_sequence}
    walk = channel.walk(start["position"], start["sequence"])
    try:
        while True:
            record = next(walk)
            if not only_end:
                emit(channel.describe(*record))
    except StopIteration as stop:
        emit(stop.value)
        return 0
    except Damage as damage:
        emit({"error": damage.what, "pos": damage.position})
        print(f"position {damage.position}: {damage.why}", file=sys.stderr)
        return 1


def print_header(header):
    for name, value in vars(header).items():
        if name == "stages":
            value = [vars(stage) for stage in value]
        print(f"{name}: {value}")


def check_steps(channel, position):
    """Every intermediate value of the check of the frame at `position`, as (name, hexadecimal digits, value)."""
    salt = channel.header.salt
    word = channel.word(position)
    kl, length = word >> 32, word >> 32 & 0xFFF_FFFF
    a, b = mix_steps(salt, position, kl)
    crc = crc32c_padded(channel.payload(position, length)) if channel.header.checksum == 1 else 0
    return [
        ("word", 16, word),
        ("kl", 8, kl),
        ("salt0", 16, salt[0]),
        ("salt1", 16, salt[1]),
        ("position", 16, position),
        ("position ^ salt0", 16, position ^ salt[0]),
        ("a", 16, a),
        ("a ^ a >> 32 ^ kl", 16, a ^ a >> 32 ^ kl),
        ("... + salt1", 16, (a ^ a >> 32 ^ kl) + salt[1] & MASK64),
        ("b", 16, b),
        ("b >> 32", 8, b >> 32),
        ("crc", 8, crc),
        ("check", 8, crc ^ b >> 32),
    ]


def main(args):
    try:
        if len(args) == 1:
            return print_records(Channel(args[0]), only_end=False)
        if len(args) == 2 and args[0] == "--end":
            return print_records(Channel(args[1]), only_end=True)
        if len(args) == 2 and args[0] == "--header":
            print_header(Channel(args[1]).header)
            return 0
        if len(args) == 3 and args[0] == "--check":
            for name, digits, value in check_steps(Channel(args[2]), int(args[1])):
                print(f"{name:<18} = 0x{value:0{digits}x}")
            return 0
    except NotAChannel as error:
        print(f"{args[-1]}: {error}", file=sys.stderr)
        return 3
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
