"""What each tool is called with for each step of compare.py and grow.py. Unused space that may stay is 5 % for all."""
import os
import subprocess

TOOLS = ("refloat", "restic", "rustic", "borg")
PASSWORD = "benchmark"


def environment():
    names = ("RESTIC_PASSWORD", "RESTIC_FROM_PASSWORD", "RUSTIC_PASSWORD", "BORG_PASSPHRASE", "REFLOAT_PASSWORD",
             "REFLOAT_OTHER_PASSWORD")
    borg = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    return {**os.environ, **borg, **dict.fromkeys(names, PASSWORD)}


def other_repository(repository):
    """Where a repository is copied to."""
    return repository + ".other"


def steps(tool, program, place, source, wanted):
    """The command of each step, and of what comes before and after some; a step that a tool has not is left out.

    `place` holds the repository, the cache and what is restored; `wanted` is a name that `find` looks for.
    """
    repository, target, cache = (os.path.join(place, part) for part in ("repo", "out", "cache"))
    makers = {"refloat": refloat, "restic": restic, "rustic": rustic, "borg": borg}
    made = makers[tool](program, repository, source, target, cache, wanted)
    return {**dict.fromkeys(("first", "unchanged", "changed", "again"), made.get("backup")), **made}


def refloat(program, repository, source, target, cache, wanted):
    base, into = ([program, "--quiet", "-r", r] for r in (repository, other_repository(repository)))
    return {"init": base + ["init"], "backup": base + ["backup", "--source", "files:" + source],
            "restore": base + ["restore", "latest", "--target", target],
            "ls": base + ["ls", "latest", "--recursive"], "find": base + ["find", wanted], "points": base + ["points"],
            "check": base + ["check", "--read-data"], "sound": base + ["check"],
            "other": into + ["init"], "copy": base + ["copy", "--to", other_repository(repository)],
            "copied": into + ["check"],
            # Its own limit is 5 %, and no option of `forget`.
            "prune": base + ["forget", "--keep-last", "1", "--prune", "--yes"]}


def restic(program, repository, source, target, cache, wanted):
    base, into = ([program, "-q", "-r", r, "--cache-dir", cache] for r in (repository, other_repository(repository)))
    return {"init": base + ["init"], "backup": base + ["backup", source],
            "restore": base + ["restore", "latest", "--target", target],
            "ls": base + ["ls", "latest"], "find": base + ["find", wanted], "points": base + ["snapshots"],
            "check": base + ["check", "--read-data"], "sound": base + ["check"],
            "other": into + ["init"], "copy": into + ["copy", "--from-repo", repository], "copied": into + ["check"],
            "prune": base + ["forget", "--keep-last", "1", "--prune", "--max-unused", "5%"]}


def rustic(program, repository, source, target, cache, wanted):
    other = other_repository(repository)
    rest = ["--cache-dir", cache, "--no-progress", "--log-level", "error"]
    base, into = [program, "-r", repository, *rest], [program, "-r", other, *rest]
    # Targets are profiles, which it looks for in the current folder.
    copy = ["sh", "-c", f"cd '{other}.profile' && exec \"$@\"", "rustic", *base, "copy", "--target", "other"]
    return {"init": base + ["init"], "backup": base + ["backup", source],
            "restore": base + ["restore", "latest", target],
            "ls": base + ["ls", "latest"], "find": base + ["find", "--glob", wanted], "points": base + ["snapshots"],
            "check": base + ["check", "--read-data"], "sound": base + ["check"],
            # It copies only between repositories of one chunker, which no option of `init` says.
            "other": copy + ["--init", "--filter-host", "nobody"], "copied": into + ["check"], "copy": copy,
            # By itself it repacks no more than a tenth of the repository, and deletes a day later.
            "prune": base + ["forget", "--keep-last", "1", "--prune", "--max-unused", "5%", "--max-repack", "unlimited",
                             "--instant-delete"]}


def borg(program, repository, source, target, cache, wanted):
    # Its cache is by the repository's id, wherever that is moved.
    base = ["env", "BORG_BASE_DIR=" + cache, program]
    shell = f"BORG_BASE_DIR='{cache}' '{program}'"
    create = base + ["create", "-C", "zstd,3"]
    # Archives take names, and it lists one at a time.
    find = f"for archive in $({shell} list --short '{repository}'); do {shell} list '{repository}'::$archive 'sh:**/{wanted}' || exit; done"
    return {"init": base + ["init", "-e", "repokey-blake2", repository],
            "backup": create + [repository + "::{now:%s.%f}", source], "first": create + [repository + "::a", source],
            "restore": ["sh", "-c", f"mkdir -p '{target}' && cd '{target}' && {shell} extract '{repository}::a'"],
            "ls": base + ["list", repository + "::a"], "find": ["sh", "-c", find], "points": base + ["list", repository],
            "check": base + ["check", "--verify-data", repository], "sound": base + ["check", repository],
            # The share that a segment must have to spare.
            "prune": ["sh", "-c", f"{shell} prune --keep-last 1 '{repository}' && {shell} compact --threshold 5 '{repository}'"]}


def versions(tools):
    def ask(program):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True)
        if answer.returncode != 0:
            answer = subprocess.run([program, "version"], capture_output=True, text=True)
        return answer.stdout.split("\n")[0]

    return {tool: ask(program) for tool, program in tools.items()}
