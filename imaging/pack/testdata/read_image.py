"""A reader of Ingot images, written from docs/IMAGE-FORMAT.md alone.

    read_image.py DIGEST DIRECTORY [OUTPUT]   checks an image; writes its content
    read_image.py --manifests                 judges manifests, one on each line of
                                              standard input: "ok" or "no: why"

It needs Python 3 and zstd. XXH3 is not checked: SHA-256 covers the same bytes.
"""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys


class Refused(Exception):
    pass


def need(good, why):
    if not good:
        raise Refused(why)


def text(s):
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'


def canonical(m):
    """Section 3, Grammar: the one way to write what was parsed."""
    out = ['"version":%d' % m["version"], '"kind":' + text(m["kind"])]
    if m.get("name"):
        out.append('"name":' + text(m["name"]))
    out.append('"architecture":' + text(m["architecture"]))
    for key in ("sector_size", "size_bytes", "frame_size_bytes", "packed_size_bytes"):
        out.append('"%s":%d' % (key, m[key]))
    boot = []
    for key in ("partition_table", "root_partition", "esp_partition", "esp_loader", "kernel", "initrds", "cmdline"):
        value = m.get("boot", {}).get(key)
        if not value:
            continue
        if isinstance(value, list):
            boot.append('"%s":[%s]' % (key, ",".join(map(text, value))))
        elif isinstance(value, str):
            boot.append('"%s":%s' % (key, text(value)))
        else:
            boot.append('"%s":%d' % (key, value))
    if boot:
        out.append('"boot":{%s}' % ",".join(boot))
    out.append('"holes":[%s]' % ",".join("[%d,%d]" % tuple(h) for h in m["holes"]))
    rows = ('[%d,%d,"%s","%s","%s"]' % tuple(f) for f in m["frames"])
    out.append('"frames":[%s]' % ",".join(rows))
    return ("{" + ",".join(out) + "}").encode()


def number(n):
    need(type(n) is int and 0 <= n < 1 << 64, "a number that is none")
    return n


def string(s, most):
    need(type(s) is str and len(s) <= most and all(" " <= c <= "~" for c in s), "text")
    return s


def path(p):
    string(p, 512)
    need(p.startswith("/") and ".." not in p.split("/"), "path")


def check_boot(b):
    need(type(b) is dict, "boot")
    need(b.get("partition_table", "gpt") in ("gpt", "mbr"), "partition table")
    for key in ("root_partition", "esp_partition"):
        need(1 <= number(b.get(key, 1)) <= 1024, key)
    for p in [b[k] for k in ("esp_loader", "kernel") if k in b]:
        path(p)
    if "initrds" in b:
        need(type(b["initrds"]) is list and 1 <= len(b["initrds"]) <= 8, "initrds")
        for p in b["initrds"]:
            path(p)
    string(b.get("cmdline", ""), 2048)


def check_head(m):
    for key in ("version", "sector_size", "size_bytes", "frame_size_bytes", "packed_size_bytes"):
        number(m[key])
    need(m["version"] == 1, "version")
    need(m["kind"] in ("disk", "tree"), "kind")
    string(m.get("name", ""), 128)
    need(type(m["architecture"]) is str and re.fullmatch("[a-z0-9_]{1,16}", m["architecture"]), "architecture")
    size, frame = m["size_bytes"], m["frame_size_bytes"]
    need(size >= 1, "empty")
    need(1 << 16 <= frame <= 1 << 24 and frame & (frame - 1) == 0, "frame size")
    need(m["packed_size_bytes"] <= 1 << 62, "packed size")
    if m["kind"] == "disk":
        need(m["sector_size"] in (512, 4096) and size % m["sector_size"] == 0, "sectors")
    else:
        need(m["sector_size"] == 0 and "boot" not in m, "a tree with sectors")
    if "boot" in m:
        check_boot(m["boot"])


def check_frames(m):
    """Gives for each frame its size and its row, None for a hole."""
    size, frame = m["size_bytes"], m["frame_size_bytes"]
    count = -(-size // frame)
    need(count <= 1048576, "too many frames")
    holes, end = set(), -1
    for hole in m["holes"]:
        need(type(hole) is list and len(hole) == 2, "hole")
        first, n = map(number, hole)
        need(first > end and n >= 1 and first + n <= count, "holes")
        end = first + n
        holes.update(range(first, first + n))
    rows = iter(m["frames"])
    frames, end = [], 0
    for i in range(count):
        length = min(frame, size - i * frame)
        if i in holes:
            frames.append((length, None))
            continue
        row = next(rows, None)
        need(type(row) is list and len(row) == 5, "rows of frames")
        offset, packed = number(row[0]), number(row[1])
        need(1 <= packed <= length + length // 256 + 64, "packed size of a frame")
        need(offset >= end, "frames overlap")
        end = offset + packed
        need(end <= m["packed_size_bytes"], "a frame beyond the end")
        for cell, digits in zip(row[2:], (64, 16, 64)):
            need(type(cell) is str and re.fullmatch("[0-9a-f]{%d}" % digits, cell), "a hash")
        frames.append((length, row))
    need(next(rows, None) is None, "more rows than frames")
    return frames


def parse(data):
    need(len(data) <= 67108864, "the manifest is too long")
    try:
        m = json.loads(data)
        need(type(m) is dict, "no object")
        check_head(m)
        frames = check_frames(m)
        need(canonical(m) == data, "not in canonical form")
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise Refused(repr(e))
    return m, frames


def unpack(packed, most):
    p = subprocess.run(["zstd", "-dc", "--no-progress"], input=packed, capture_output=True)
    need(p.returncode == 0 and len(p.stdout) <= most, "a frame does not unpack")
    return p.stdout


def check_seek_table(table, m, frames):
    """Section 2. Gives where each zstd frame begins."""
    want = 8 * len(frames) + 9
    need(len(table) == 8 + want, "length of the seek table")
    need(struct.unpack("<II", table[:8]) == (0x184D2A5E, want), "seek table")
    need(struct.unpack("<IBI", table[-9:]) == (len(frames), 0, 0x8F92EAB1), "its footer")
    places, at = [], 0
    for i, (length, row) in enumerate(frames):
        packed, content = struct.unpack("<II", table[8 + 8 * i:16 + 8 * i])
        need(content == length and (row is None or row[:2] == [at, packed]), "its frame %d" % i)
        places.append((at, packed))
        at += packed
    need(at + len(table) == m["packed_size_bytes"], "its sum")
    return places


def read(digest, directory, output):
    with open(os.path.join(directory, "manifest.json"), "rb") as f:
        data = f.read(67108864 + 1)
    need("sha256:" + hashlib.sha256(data).hexdigest() == digest, "digest")
    m, frames = parse(data)
    with open(os.path.join(directory, "frames.zst"), "rb") as f:
        packed = f.read()
    need(len(packed) == m["packed_size_bytes"], "length of frames.zst")
    places = check_seek_table(packed[len(packed) - 8 * len(frames) - 17:], m, frames)
    for (length, row), (offset, size) in zip(frames, places):
        piece = packed[offset:offset + size]
        if row is not None:
            need(hashlib.sha256(piece).hexdigest() == row[2], "packed bytes of a frame")
        content = unpack(piece, length)
        if row is None:
            need(content == bytes(length), "a hole with data")
        else:
            need(len(content) == length and hashlib.sha256(content).hexdigest() == row[4], "content of a frame")
        output.write(content)


def main(args):
    if args == ["--manifests"]:
        for line in sys.stdin.buffer.read().split(b"\n")[:-1]:
            try:
                parse(line)
                print("ok")
            except Refused as e:
                print("no: %s" % e)
        return
    with open(args[2] if len(args) > 2 else os.devnull, "wb") as output:
        read(args[0], args[1], output)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as e:
        sys.exit("refused: %s" % e)
