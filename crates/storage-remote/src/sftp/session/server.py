"""A server of SFTP that says little, late or nothing: python3 server.py MODE"""
import struct, sys, time

MODE = sys.argv[1]
OUT = sys.stdout.buffer
FOLDER, FILE, LINK = 0o040700, 0o100600, 0o120777


def take(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit(0)
    return data


def say(kind, number, rest):
    OUT.write(struct.pack(">IBI", 5 + len(rest), kind, number) + rest)
    OUT.flush()


def text(data):
    return struct.pack(">I", len(data)) + data


def status(number, code):
    say(101, number, struct.pack(">I", code) + text(b"") + text(b""))


def attributes(size=None, mode=None):
    flags = (1 if size is not None else 0) | (4 if mode is not None else 0)
    data = struct.pack(">I", flags)
    if size is not None:
        data += struct.pack(">Q", size)
    if mode is not None:
        data += struct.pack(">I", mode)
    return data


PACK = b"ab" * 32
# What the listings show: names with what is said of them.
SHOWN = {
    b"/r/data": [(b"ab", attributes()), (b"quarantine", attributes(mode=FOLDER))],
    b"/r/data/ab": [(PACK, attributes())],
}
# What requests of some kinds are answered with: READ 5, WRITE 6, CLOSE 4, and extensions 200, the last
# of which is asked how much is free: nothing.
BROKEN = {
    "ends": {5: 1},
    "unreadable": {5: 4},
    "unwritable": {6: 4},
    "unclosable": {4: 4},
    "full": {6: 4, 200: None},
    "forbidden": {3: 4},
}
opened = {}
while True:
    (length,) = struct.unpack(">I", take(4))
    packet = take(length)
    kind, number = packet[0], struct.unpack(">I", packet[1:5])[0]
    rest = packet[9 : 9 + struct.unpack(">I", packet[5:9])[0]] if length > 9 else b""
    if kind == 1:
        say(2, 3, b"")
    elif MODE == "silent":
        pass
    elif MODE == "deaf":
        time.sleep(60)
    elif MODE == "drops":
        for byte in struct.pack(">IBI", 1000, 105, number):
            OUT.write(bytes([byte]))
            OUT.flush()
            time.sleep(0.05)
        while True:
            OUT.write(b"x")
            OUT.flush()
            time.sleep(0.05)
    elif MODE == "slow":
        time.sleep(0.3)
        say(105, number, attributes(1, FILE))
    elif MODE in BROKEN and kind in BROKEN[MODE]:
        code = BROKEN[MODE][kind]
        if code is None:
            say(201, number, struct.pack(">11Q", *([4096] * 4), 0, *([0] * 6)))
        else:
            status(number, code)
    elif kind == 7 and MODE == "vague":
        say(105, number, attributes(1))
    elif kind == 7:
        if rest.endswith(PACK):
            size = 1 << 62 if MODE == "boasting" else 7
            say(105, number, attributes(size, LINK if MODE == "linked" else FILE))
        elif rest.endswith(b"/ab"):
            say(105, number, attributes(mode=LINK if MODE == "linked-folder" else FOLDER))
        else:
            status(number, 2)
    elif kind == 11:
        if rest in SHOWN:
            opened[rest] = False
            say(102, number, text(rest))
        else:
            status(number, 2)
    elif kind == 12:
        if opened[rest]:
            status(number, 1)
        else:
            opened[rest] = True
            entries = SHOWN[rest]
            data = b"".join(text(name) + text(b"") + about for name, about in entries)
            say(104, number, struct.pack(">I", len(entries)) + data)
    elif kind == 3:
        say(102, number, text(b"handle"))
    else:
        status(number, 0)
