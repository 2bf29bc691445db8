#!/usr/bin/env python3
"""Times `refloat backup` of an image registry beside `skopeo sync --all`.

usage: registry.py REFLOAT [--rounds N] [--tags N] [--scale F] [--work DIR] [--out FILE.json] [--layers]

A Debian `docker-registry` on loopback holds 20 repositories of N tags (10 if not said), whose layers
are F times the usual size. Layers are
tars of files of the Debian packages that are installed here, under gzip: a base that all share,
four runtimes that five repositories share and that are built anew with new times every third tag,
and an application of which a tenth of the files changes with each tag. skopeo copies each
repository into folders (`dir:`, which has no second run: it refuses) and into a second registry,
where a second run is possible; folders take what is
counted by tag, some 8 GB. The tools take turns in another order each round; the registry
shares the machine with them. `--layers` also stores the layers unpacked, as tars and as files, and
says what that takes. All servers are ended by their process ids.
"""
import argparse
import gzip
import hashlib
import http.client
import io
import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import time

import compare

REPOSITORIES, RUNTIMES = 20, 4
# Uncompressed, in bytes.
BASE, RUNTIME, APPLICATION = 60 << 20, 30 << 20, 20 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def package_files():
    """Regular files of installed packages, package by package in an order of a fixed seed."""
    lists = sorted(name for name in os.listdir("/var/lib/dpkg/info") if name.endswith(".list"))
    random.Random("packages").shuffle(lists)
    for name in lists:
        with open(f"/var/lib/dpkg/info/{name}") as listed:
            paths = listed.read().splitlines()
        files = [p for p in paths if os.path.isfile(p) and not os.path.islink(p)]
        yield [p for p in files if os.path.getsize(p) < 16 << 20]


def draw(packages, size):
    """Whole packages of about this size; none that would be much more."""
    chosen, total = [], 0
    while total < size * 0.9:
        files = next(packages)
        length = sum(map(os.path.getsize, files))
        if total + length <= size * 1.1:
            chosen, total = chosen + files, total + length
    return chosen


def layer(job):
    """Writes one layer as a blob; gives digest, length, and the digest of the tar."""
    folder, files, seed, modified, changed = job
    rng = random.Random(seed)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in files:
            info = tarfile.TarInfo(path.lstrip("/"))
            content = open(path, "rb").read()
            if rng.random() < changed:
                content += rng.randbytes(100)
            info.size, info.mtime, info.mode = len(content), modified, os.stat(path).st_mode & 0o7777
            tar.addfile(info, io.BytesIO(content))
    plain = out.getvalue()
    packed = gzip.compress(plain, 1, mtime=0)
    digest = hashlib.sha256(packed).hexdigest()
    with open(f"{folder}/{digest}", "wb") as blob:
        blob.write(packed)
    return digest, len(packed), hashlib.sha256(plain).hexdigest()


def generate(folder, tags, scale):
    """Makes all blobs, unless an earlier run did, and gives the manifests by repository and tag."""
    os.makedirs(folder, exist_ok=True)
    listing = f"{folder}/manifests-{tags}-{scale}.json"
    if os.path.exists(listing):
        with open(listing) as made:
            return {(repository, tag): manifest for repository, tag, manifest in json.load(made)}
    drawn = [files for files in package_files() if files]
    endless = (p for _ in range(1000) for p in drawn)
    base = (folder, draw(endless, BASE * scale), 0, 1_600_000_000, 0)
    runtimes = [draw(endless, RUNTIME * scale) for _ in range(RUNTIMES)]
    applications = [draw(endless, APPLICATION * scale) for _ in range(REPOSITORIES)]
    jobs = {"base": base}
    for tag in range(tags):
        for number, files in enumerate(runtimes):
            jobs[f"runtime{number}.{tag // 3}"] = (folder, files, number, 1_600_000_000 + tag // 3, 0)
        for number, files in enumerate(applications):
            jobs[f"app{number}.{tag}"] = (folder, files, f"{number}.{tag}", 1_600_000_000 + tag, 0.1)
    with multiprocessing.Pool(os.cpu_count()) as pool:
        made = dict(zip(jobs, pool.map(layer, jobs.values(), chunksize=1)))
    images = {}
    for number in range(REPOSITORIES):
        for tag in range(tags):
            layers = [made["base"], made[f"runtime{number % RUNTIMES}.{tag // 3}"], made[f"app{number}.{tag}"]]
            config = json.dumps({"architecture": "amd64", "os": "linux", "created": f"2026-01-01T00:{tag:02}:00Z",
                                 "config": {}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + l[2] for l in layers]}})
            digest = hashlib.sha256(config.encode()).hexdigest()
            with open(f"{folder}/{digest}", "w") as blob:
                blob.write(config)
            descriptors = [{"mediaType": LAYER, "digest": "sha256:" + l[0], "size": l[1]} for l in layers]
            images[f"team/app{number}", f"v{tag}"] = json.dumps({
                "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
                "config": {"mediaType": CONFIG, "digest": "sha256:" + digest, "size": len(config)}})
    with open(listing, "w") as out:
        json.dump([[*name, manifest] for name, manifest in images.items()], out)
    return images


class Registry:
    """Debian's docker-registry on a free port of loopback, with a folder of its own."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % probe.getsockname()[1]
        with open(f"{folder}/config.yml", "w") as config:
            config.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                         f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '{self.host}'}}\n")
        log = open(f"{folder}/log", "w")
        self.process = subprocess.Popen(["docker-registry", "serve", f"{folder}/config.yml"], stdout=log, stderr=log)
        while True:
            try:
                return socket.create_connection(self.host.split(":")).close()
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"docker-registry ended: see {folder}/log")
                time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer

    def push(self, folder, images):
        for (repository, tag), manifest in images.items():
            document = json.loads(manifest)
            for blob in document["layers"] + [document["config"]]:
                digest = blob["digest"]
                if self.ask("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
                    continue
                place = self.ask("POST", f"/v2/{repository}/blobs/uploads/").getheader("location")
                place = place[place.index("/v2/"):]
                with open(f"{folder}/{digest[7:]}", "rb") as content:
                    answer = self.ask("PUT", f"{place}&digest={digest}", content, {"Content-Length": str(blob["size"])})
                assert answer.status == 201, answer.status
            answer = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", manifest, {"Content-Type": MANIFEST})
            assert answer.status == 201, answer.status


def together(commands, log):
    """Runs commands one after the other: wall and CPU seconds, and the largest peak in MiB."""
    wall = cpu = peak = 0
    for command in commands:
        status, *measured = compare.run(command, log)
        if status != 0:
            sys.exit(f"{command} ended with {status}: see {log}")
        once, _durable, processor, memory = measured
        wall, cpu, peak = wall + once, cpu + processor, max(peak, memory)
    return {"wall": wall, "cpu": cpu, "peak": peak}


def refloat(program, registry, place, log):
    repository = f"{place}/repository"
    base = [program, "--quiet", "-r", repository]
    together([base + ["init"]], log)
    backup = [base + ["backup", "--source", f"registry:http://{registry.host}"]]
    first = {**together(backup, log), "stored": compare.size_mib(repository)}
    unchanged = together(backup, log)
    together([base + ["check", "--read-data"]], log)
    return {"refloat first": first, "refloat unchanged": unchanged}


def skopeo(kind, registry, place, log):
    os.makedirs(place)
    second = Registry(f"{place}/second") if kind == "docker" else None
    target = f"{second.host}/copy" if second else f"{place}/copy"
    # A port cannot stand in a repository's name, which a scoped copy would make of it.
    flags = ["--all", *([] if second else ["--scoped"]), "--src-tls-verify=false", "--dest-tls-verify=false", "--src", "docker", "--dest", kind]
    sync = [["skopeo", "--insecure-policy", "sync", *flags, f"{registry.host}/team/app{n}", target] for n in range(REPOSITORIES)]
    if not second:
        os.makedirs(target)
    first = {**together(sync, log), "stored": compare.size_mib(f"{place}/second/data" if second else target)}
    results = {f"skopeo to {kind} first": first}
    if second:
        results[f"skopeo to {kind} unchanged"] = together(sync, log)
        second.end()
    return results


def layers_unpacked(program, images, blobs, place, log):
    """What the same layers take unpacked: as tars, and as the files in them."""
    digests = {l["digest"][7:] for m in images.values() for l in json.loads(m)["layers"]}
    results = {}
    for form in ("tars", "files"):
        source, repository = f"{place}/{form}", f"{place}/{form}-repository"
        for digest in sorted(digests):
            os.makedirs(f"{source}/{digest}" if form == "files" else source, exist_ok=True)
            with gzip.open(f"{blobs}/{digest}") as packed:
                if form == "tars":
                    with open(f"{source}/{digest}.tar", "wb") as out:
                        shutil.copyfileobj(packed, out, 1 << 20)
                else:
                    tarfile.open(fileobj=packed).extractall(f"{source}/{digest}")
        base = [program, "--quiet", "-r", repository]
        together([base + ["init"]], log)
        results[f"the layers as {form}"] = {**together([base + ["backup", "--source", f"files:{source}"]], log),
                                           "stored": compare.size_mib(repository)}
        shutil.rmtree(source)
    return results


def table(results, facts):
    print(f"\n{facts}\n\n| | wall s | processor s | peak MiB | stored MiB |\n|---|---|---|---|---|")
    for name, rounds in results.items():
        middle = sorted(rounds, key=lambda r: r["wall"])[len(rounds) // 2]
        stored = "%.0f" % middle["stored"] if "stored" in middle else ""
        print(f"| {name} | {middle['wall']:.1f} | {middle['cpu']:.1f} | {middle['peak']:.0f} | {stored} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("refloat")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tags", type=int, default=10)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--work", default="/var/tmp/refloat-bench-registry")
    parser.add_argument("--out")
    parser.add_argument("--layers", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    blobs, log = f"{options.work}/blobs", f"{options.work}/log"
    images = generate(blobs, options.tags, options.scale)
    registry = Registry(f"{options.work}/registry")
    results = {}
    try:
        registry.push(blobs, images)
        tools = [lambda place: refloat(options.refloat, registry, place, log),
                 lambda place: skopeo("dir", registry, place, log), lambda place: skopeo("docker", registry, place, log)]
        load = os.getloadavg()[0]
        for number in range(options.rounds):
            turns = tools[number % 3:] + tools[:number % 3]
            for turn, tool in enumerate(turns):
                place = f"{options.work}/turn{number}.{turn}"
                shutil.rmtree(place, ignore_errors=True)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                for name, result in tool(place).items():
                    print(name, result, flush=True)
                    results.setdefault(name, []).append(result)
                shutil.rmtree(place)
        if options.layers:
            place = f"{options.work}/layers"
            for name, result in layers_unpacked(options.refloat, images, blobs, place, log).items():
                results[name] = [result]
            shutil.rmtree(place)
    finally:
        registry.end()
    digests = {b["digest"]: b["size"] for m in images.values() for d in [json.loads(m)] for b in d["layers"] + [d["config"]]}
    counted = sum(b["size"] for m in images.values() for b in json.loads(m)["layers"])
    facts = (f"{REPOSITORIES} repositories, {len(images)} tags, {sum(digests.values()) / 2**20:.0f} MiB of different blobs, "
             f"{counted / 2**20:.0f} MiB counted by tag; {os.cpu_count()} processors, load average {load:.1f} before and "
             f"{os.getloadavg()[0]:.1f} after; {options.rounds} rounds, the middle one")
    table(results, facts)
    if options.out:
        with open(options.out, "w") as out:
            json.dump({"facts": facts, "results": results}, out, indent=1)


if __name__ == "__main__":
    main()
