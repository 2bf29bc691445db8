//! Recording system calls with `strace`, and reading its output.
//!
//! Each thread has a file of its own there, so no call is printed in two halves; times tell the
//! order between threads. All text is in hexadecimal digits, so nothing in it can be mistaken.
//!
//! Invariant: a call that changes the folder in a way that the model does not know is a panic, and is
//! never passed over.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What changes files, or synchronises them. `sync` and mappings would be unknown to the model.
const TRACED: &str = "open,openat,openat2,creat,mkdir,mkdirat,write,pwrite64,writev,pwritev,fsync,fdatasync,\
    rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,truncate,ftruncate,fallocate,\
    copy_file_range,sendfile";

/// What a call does. Paths are below the folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A file is there from now on, if it was not before.
    Create(PathBuf),
    MakeFolder(PathBuf),
    /// Bytes are appended.
    Append(PathBuf, Vec<u8>),
    /// Bytes are written from an offset on.
    WriteAt(PathBuf, u64, Vec<u8>),
    /// A file has this length from now on, and zeros where it grew.
    SetLength(PathBuf, u64),
    /// A file or folder is synchronised.
    Synchronise(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// A call that succeeded.
#[derive(Clone, Debug)]
pub struct Call {
    pub thread: u32,
    /// Microseconds.
    pub began: u64,
    pub ended: u64,
    pub effect: Effect,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, path) = match &self.effect {
            Effect::Create(path) => ("create", path),
            Effect::MakeFolder(path) => ("mkdir", path),
            Effect::Append(path, _) | Effect::WriteAt(path, ..) => ("write", path),
            Effect::SetLength(path, _) => ("truncate", path),
            Effect::Synchronise(path) => ("fsync", path),
            Effect::Rename(_, to) => ("rename to", to),
            Effect::Link(_, to) => ("link to", to),
            Effect::Remove(path) => ("unlink", path),
        };
        write!(f, "{word} {}", path.display())
    }
}

/// What paths are understood by.
struct Place {
    /// What is recorded.
    folder: PathBuf,
    /// Where the program runs.
    directory: PathBuf,
}

/// Runs a program under `strace`; its calls that concern the folder, by their ends.
pub fn record(folder: &Path, program: &Command) -> (Vec<Call>, Output) {
    let traces = tempfile::tempdir().unwrap();
    let mut strace = Command::new("strace");
    strace
        .args(["-ff", "-y", "-xx", "-s", "67108864", "-ttt", "-T"])
        .args([
            "-e",
            &format!("trace={TRACED}"),
            "-e",
            "status=successful",
            "-o",
        ])
        .arg(traces.path().join("trace"))
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear();
    if let Some(directory) = program.get_current_dir() {
        strace.current_dir(directory);
    }
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    if let Some(path) = std::env::var_os("PATH") {
        strace.env("PATH", path);
    }
    let output = strace.stdin(std::process::Stdio::null()).output().unwrap();
    let place = Place {
        folder: folder.to_owned(),
        directory: program
            .get_current_dir()
            .unwrap_or(Path::new("/"))
            .to_owned(),
    };
    let mut calls = Vec::new();
    for file in std::fs::read_dir(traces.path()).unwrap() {
        let path = file.unwrap().path();
        let thread = path.extension().and_then(|number| number.to_str());
        let thread = thread.and_then(|number| number.parse().ok()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter_map(|line| parse(&place, thread, line));
        calls.extend(lines);
    }
    // Stable: calls of one thread stay in order.
    calls.sort_by_key(|call| call.ended);
    (calls, output)
}

/// A line; none if the call does nothing to the folder.
fn parse(place: &Place, thread: u32, line: &str) -> Option<Call> {
    let (time, rest) = line.split_once(' ')?;
    // `+++ exited with 0 +++` and signals.
    let (name, rest) = rest.split_once('(')?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let (rest, took) = rest.trim_end_matches('>').rsplit_once(" <").unwrap();
    let (arguments, result) = rest.rsplit_once(") = ").unwrap();
    let arguments: Vec<&str> = arguments.split(", ").collect();
    let effect = effect(place, name, &arguments, result)?;
    let began = microseconds(time);
    let ended = began + microseconds(took);
    Some(Call {
        thread,
        began,
        ended,
        effect,
    })
}

fn microseconds(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let micros = format!("{part:0<6}");
    whole.parse::<u64>().unwrap() * 1_000_000 + micros[..6].parse::<u64>().unwrap()
}

fn effect(place: &Place, name: &str, arguments: &[&str], result: &str) -> Option<Effect> {
    let folder = &place.folder;
    let argument = |number: usize| arguments.get(number).copied().unwrap_or_default();
    let below = |path: PathBuf| path.strip_prefix(folder).ok().map(Path::to_owned);
    let named = |number| place.directory.join(text(argument(number)));
    let of_fd = |number| below(fd_path(argument(number)));
    let of_at = |number| below(fd_path(argument(number)).join(text(argument(number + 1))));
    match name {
        "open" => {
            let path = below(named(0));
            let only_reads = argument(1).contains("O_RDONLY") && !argument(1).contains("O_CREAT");
            assert!(path.is_none() || only_reads, "open is unknown to the model");
            None
        }
        "openat" => {
            let flags = argument(2);
            let path = of_at(0)?;
            assert!(
                !flags.contains("O_TRUNC"),
                "truncation is unknown to the model"
            );
            flags.contains("O_CREAT").then_some(Effect::Create(path))
        }
        "mkdir" => Some(Effect::MakeFolder(below(named(0))?)),
        "mkdirat" => Some(Effect::MakeFolder(of_at(0)?)),
        "write" => {
            let path = of_fd(0)?;
            let mut bytes = bytes(argument(1));
            bytes.truncate(result.parse().unwrap());
            Some(Effect::Append(path, bytes))
        }
        "pwrite64" => {
            let path = of_fd(0)?;
            let mut bytes = bytes(argument(1));
            bytes.truncate(result.parse().unwrap());
            let offset = argument(3).parse().unwrap();
            Some(Effect::WriteAt(path, offset, bytes))
        }
        "ftruncate" => {
            let path = of_fd(0)?;
            Some(Effect::SetLength(path, argument(1).parse().unwrap()))
        }
        "fsync" => Some(Effect::Synchronise(of_fd(0)?)),
        "fdatasync" => Some(Effect::Synchronise(of_fd(0)?)),
        "renameat" | "renameat2" => {
            let (from, to) = (of_at(0), of_at(2));
            match (from, to) {
                (Some(from), Some(to)) => Some(Effect::Rename(from, to)),
                (None, None) => None,
                _ => panic!("a rename across the folder's edge"),
            }
        }
        "linkat" => match (of_at(0), of_at(2)) {
            (Some(from), Some(to)) => Some(Effect::Link(from, to)),
            (None, None) => None,
            _ => panic!("a link across the folder's edge"),
        },
        "unlink" => Some(Effect::Remove(below(named(0))?)),
        "unlinkat" => Some(Effect::Remove(of_at(0)?)),
        _ => {
            let paths = arguments.iter().filter(|argument| argument.contains("\\x"));
            for path in paths {
                let path = match path.contains('<') {
                    true => fd_path(path),
                    false => place.directory.join(text(path)),
                };
                assert!(below(path).is_none(), "{name} is unknown to the model");
            }
            None
        }
    }
}

/// The path in `5<\x2f…>` or `AT_FDCWD<\x2f…>`.
fn fd_path(argument: &str) -> PathBuf {
    let path = argument.split_once('<').map_or("", |(_, path)| path);
    text(path).into()
}

fn text(argument: &str) -> String {
    String::from_utf8(bytes(argument)).unwrap()
}

/// What `"\x41\x42"` stands for.
fn bytes(argument: &str) -> Vec<u8> {
    assert!(!argument.ends_with("..."), "strace cut a text");
    let digits = argument.split("\\x").skip(1);
    digits
        .map(|pair| u8::from_str_radix(pair.get(..2).unwrap(), 16).unwrap())
        .collect()
}
