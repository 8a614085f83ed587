#!/usr/bin/env python3
"""Brings the two generated blocks of FORMAT.md's worked example up to date with `testdata/draft/worked.kek`.

Run it after the samples have been made anew; the test `samples` fails as long as the two differ.
"""

import pathlib
import re
import sys

sys.dont_write_bytecode = True

from read_channel import Channel, check_steps  # noqa: E402

HERE = pathlib.Path(__file__).parent
SAMPLE = HERE / "draft" / "worked.kek"
FORMAT = HERE.parent / "FORMAT.md"


def hexdump(data):
    lines, skipped = [], False
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if not any(row):
            skipped = True
            continue
        if skipped:
            lines.append("*")
            skipped = False
        digits = [f"{byte:02x}" for byte in row]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {' '.join(digits[:8])}  {' '.join(digits[8:])}  |{printable}|")
    if skipped:
        lines.append("*")
    lines.append(f"{len(data):08x}")
    return lines


def replace_block(text, name, lines):
    pattern = re.compile(rf"(<!-- {name} -->\n```text\n).*?(\n```\n)", re.DOTALL)
    replaced, count = pattern.subn(lambda match: match[1] + "\n".join(lines) + match[2], text)
    assert count == 1, f"FORMAT.md has {count} blocks named {name}"
    return replaced


def main():
    steps = check_steps(Channel(SAMPLE), 0)
    text = FORMAT.read_text(encoding="utf-8")
    text = replace_block(text, "worked: bytes", hexdump(SAMPLE.read_bytes()))
    text = replace_block(
        text, "worked: check", [f"{name:<18} = 0x{value:0{digits}x}" for name, digits, value in steps]
    )
    FORMAT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
