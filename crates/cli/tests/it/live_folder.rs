//! Backups of a folder in which somebody is at work.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::cli_env::CliEnv;

/// Writes a letter all over a page of a file for each line, through a mapping of it.
const WRITER: &str = "\
import mmap, sys
file = open(sys.argv[1], 'r+b')
page = mmap.mmap(file.fileno(), 4096)
for line in sys.stdin:
    page[:] = line[:1].encode() * 4096
    print('done', flush=True)
";

#[test]
fn a_page_that_changes_again_before_it_is_written_out_is_in_the_next_point() {
    let env = CliEnv::with_data();
    env.write("data/mapped", &"a".repeat(4096));
    let writer = Command::new("python3")
        .args(["-c", WRITER])
        .arg(env.path("data/mapped"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut writer) = writer else {
        refloat_testkit::skip("mapping a file needs python3");
        return;
    };
    let mut orders = writer.stdin.take().unwrap();
    let mut answers = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut write = |letter: &str| {
        writeln!(orders, "{letter}").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), "done");
    };
    let stored = format!("latest:/files/local{}", env.path("data/mapped").display());
    write("b");
    env.back_up();
    assert_eq!(env.succeed(&["cat", &stored]), "b".repeat(4096));
    // The page is writable as it is, so that no time of the file changes.
    write("c");
    env.back_up();
    assert_eq!(env.succeed(&["cat", &stored]), "c".repeat(4096));
    drop(orders);
    assert!(writer.wait().unwrap().success());
}
