#!/usr/bin/env python3
"""Generates the folders that the benchmark backs up; the same bytes every time.

usage: workloads.py DIR [NAME...]     (all but those marked * unless named)

Everything comes from one seed per folder; times are fixed, so that two machines get the same
trees. `workloads.py DIR change NAME` changes 1 % of the files of a folder, for an incremental run.
"""
import hashlib
import os
import random
import sys

MIB = 1 << 20
# Steps before which the source is changed.
CHANGING = ("changed", "prune")
# Trees of more files are kept until all rounds of a workload are over; larger ones would fill the disk.
FILES_MANY = 10_000
# Fixed, so that trees are equal wherever they are made.
MODIFIED = 1_700_000_000


def syllables(rng):
    onsets, vowels = "b c d f g l m n p r s t v st tr ch sh".split(), "a e i o u ea ou".split()
    return "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(rng.randint(1, 3)))


class Text:
    """Logs or code with the redundancy of the real thing: words by Zipf's law, lines of them.

    Lines are drawn from a pool, which is fast; the pool is so much larger than a chunk that few
    lines repeat within what a compressor sees.
    """

    LINES = 40_000

    def __init__(self, seed, code=False):
        rng = random.Random(seed)
        words = [syllables(rng) for _ in range(6000)]
        weights = [1 / (rank + 3) for rank in range(len(words))]
        drawn = iter(rng.choices(words, weights, k=self.LINES * 12))
        self.pool = []
        for _ in range(self.LINES):
            line = [next(drawn) for _ in range(rng.randint(4, 11))]
            if code:
                text = "    " * rng.randint(0, 3) + rng.choice(
                    ("{0}.{1}({2});", "let {0} = {1}({2}, {3});", "if {0} == {1} {{", "}}", "// {0} {1} {2} {3}",
                     "return {0}->{1};", "static int {0}_{1}({2} *{3})", "", "#include <{0}/{1}.h>")
                ).format(*line)
            else:
                host, process = rng.randint(1, 12), rng.choice(words[:40])
                level = rng.choices(("INFO", "WARN", "ERROR"), (90, 8, 2))[0]
                clock = f"{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
                text = f"2026-03-14T09:{clock}Z node-{host:02}.example.net {process}: {level} {' '.join(line)}"
            self.pool.append((text + "\n").encode())
        self.mean = sum(map(len, self.pool)) // len(self.pool)

    def write(self, rng, length):
        """About this many bytes."""
        lines = rng.choices(self.pool, k=max(1, length // self.mean))
        return b"".join(lines)[:length]


def put(path, pieces):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        for piece in pieces:
            out.write(piece)
    os.utime(path, (MODIFIED, MODIFIED))


def large(folder, mib=1336, name="large"):
    """Two files of 1.4 GB: random bytes, and logs."""
    rng, text = random.Random(name), Text(name)
    put(f"{folder}/random.bin", (rng.randbytes(MIB) for _ in range(mib)))
    put(f"{folder}/text.txt", (text.write(rng, MIB) for _ in range(mib)))


def small(folder, count=100_000, name="small"):
    """Files of 0.1 to 8 KB, 250 to a directory; half logs, half random."""
    rng, text = random.Random(name), Text(name)
    for number in range(count):
        length = rng.randint(100, 8192)
        content = text.write(rng, length) if number % 2 else rng.randbytes(length)
        group, batch = divmod(number // 250, 20)
        put(f"{folder}/{group:03}/{batch:02}/f{number}.dat", [content])


def source(folder):
    """Like a source tree: 80,000 files in 6,000 directories, lengths log-normal, a few binaries."""
    rng, text = random.Random("source"), Text("source", code=True)
    folders = [""]
    while len(folders) < 6000:
        parent = rng.choice(folders)
        if parent.count("/") < 9:
            folders.append(f"{parent}/{syllables(rng)}{len(folders)}")
    header = text.write(rng, 900)
    for number in range(80_000):
        length = min(int(rng.lognormvariate(8.6, 1.35)), 3 * MIB)
        kind = rng.random()
        if kind < 0.03:
            content = [rng.randbytes(length)]
        else:
            content = [header, text.write(rng, length)]
        put(f"{folder}{rng.choice(folders)}/{syllables(rng)}{number}.c", content)


def one(folder):
    """One file of 2 GiB: text and random bytes in turns of 1 to 32 MiB."""
    rng, text = random.Random("one"), Text("one")

    def pieces():
        left = 2048
        while left:
            run = min(rng.randint(1, 32), left)
            left -= run
            compressible = rng.random() < 0.6
            for _ in range(run):
                yield text.write(rng, MIB) if compressible else rng.randbytes(MIB)

    put(f"{folder}/one.bin", pieces())


def duplicates(folder):
    """6,000 files of 20 KB to 1 MB of which nine in ten are copies."""
    rng, text = random.Random("duplicates"), Text("duplicates")
    originals = []
    for number in range(6000):
        if number % 10 == 0 or not originals:
            length = rng.randint(20_000, MIB)
            content = text.write(rng, length // 2) + rng.randbytes(length // 2)
            originals.append(content)
        else:
            content = rng.choice(originals)
        put(f"{folder}/{number % 97:02}/{number}.dat", [content])


def sparse(folder):
    """A disk image of 8 GiB of which 700 MiB are in use, here and there zeros written out."""
    rng, text = random.Random("sparse"), Text("sparse")
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/disk.img"
    with open(path, "wb") as image:
        image.truncate(8192 * MIB)
        for _ in range(350):
            image.seek(rng.randrange(8190) * MIB + rng.randrange(256) * 4096)
            image.write(rng.choice((lambda: text.write(rng, 2 * MIB), lambda: rng.randbytes(2 * MIB),
                                    lambda: bytes(2 * MIB)))())
    os.utime(path, (MODIFIED, MODIFIED))


def media(folder):
    """120 files of 2 to 20 MB that do not compress."""
    rng = random.Random("media")
    for number in range(120):
        put(f"{folder}/{number:03}.mp4", (rng.randbytes(MIB) for _ in range(rng.randint(2, 20))))


def million(folder):
    """*1,000,000 files of 0.1 to 8 KB."""
    small(folder, 1_000_000, "million")


def large_tenth(folder):
    """*A tenth of `large`."""
    large(folder, 134, "large_tenth")


def large_ten(folder):
    """*Ten times `large`."""
    rng, text = random.Random("large_ten"), Text("large_ten")
    for number in range(10):
        put(f"{folder}/random{number}.bin", (rng.randbytes(MIB) for _ in range(1336)))
        put(f"{folder}/text{number}.txt", (text.write(rng, MIB) for _ in range(1336)))


def change(folder):
    """Appends to or overwrites 1 % of the files below `folder`."""
    rng = random.Random("change")
    files = sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs)
    for path in rng.sample(files, max(1, len(files) // 100)):
        with open(path, "r+b") as file:
            file.seek(rng.randrange(os.path.getsize(path) + 1))
            file.write(hashlib.sha256(path.encode()).digest())


def tenth(files):
    """Some of many files, a tenth of the bytes or little more. Files of one length go together, so that no copy of what
    is chosen stays."""
    by_length = {}
    for path in files:
        by_length.setdefault(os.path.getsize(path), []).append(path)
    lengths = sorted(by_length)
    random.Random("rewrite").shuffle(lengths)
    chosen, left = [], sum(length * len(found) for length, found in by_length.items()) // 10
    while left > 0:
        length = lengths.pop()
        chosen += by_length[length]
        left -= length * len(by_length[length])
    return chosen


def rewrite(folder):
    """Turns a tenth of what the files below `folder` hold around: it is new, as long, and compresses as well. Of many
    files some are new as a whole, of few the first tenth of each."""
    files = sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs)
    is_many = len(files) >= 100
    for path in tenth(files) if is_many else files:
        with open(path, "r+b", buffering=0) as file:
            held = os.fstat(file.fileno()).st_blocks * 512
            at, left = 0, held if is_many else held // 10
            while left > 0:
                try:
                    at = file.seek(at, os.SEEK_DATA)
                except OSError:
                    break
                piece = file.read(min(left, MIB))
                file.seek(at)
                file.write(piece[::-1])
                at, left = at + len(piece), left - len(piece)


ALL = {f.__name__: f for f in (large, small, source, one, duplicates, sparse, media, million, large_tenth, large_ten)}
# What each takes on disk and what its files say that they are long, in MiB; files.
SIZES = {"large": (2672, 2672, 2), "small": (593, 399, 100_000), "source": (1262, 1106, 80_000), "one": (2048, 2048, 1),
         "duplicates": (3068, 3056, 6000), "sparse": (671, 8193, 1), "media": (1267, 1267, 120),
         "million": (5912, 3970, 1_000_000), "large_tenth": (268, 268, 2), "large_ten": (26_720, 26_720, 20)}


def make(root, names):
    for name in names:
        folder = os.path.join(root, name)
        if os.path.exists(folder):
            print(f"{folder} is there already")
            continue
        print(f"making {folder}: {ALL[name].__doc__.strip('*')}", flush=True)
        ALL[name](folder + ".part")
        os.rename(folder + ".part", folder)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    root, names = os.path.abspath(sys.argv[1]), sys.argv[2:]
    if names[:1] == ["change"]:
        for name in names[1:]:
            change(os.path.join(root, name))
        return
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"unknown workloads {', '.join(unknown)}; there are {', '.join(ALL)}")
    make(root, names or [name for name, made in ALL.items() if not made.__doc__.startswith("*")])


if __name__ == "__main__":
    main()
