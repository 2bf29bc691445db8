//! Sessions with a server that says little, late or nothing.

use std::process::{Command, Stdio};

use super::*;

/// A session with the stub.
pub(in crate::sftp) fn session(mode: &str, silence_max: Duration) -> Session {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sftp/session/server.py");
    let mut child = Command::new("python3")
        .args([server, mode])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let running = Running {
        input: child.stdin.take().unwrap(),
        output: child.stdout.take().unwrap(),
        child,
        said: Said::default(),
    };
    let connect = ConnectOptions {
        silence_max,
        ..ConnectOptions::default()
    };
    Session::over(running, "stub".to_owned(), &connect).unwrap()
}

#[test]
fn a_slow_line_is_no_silent_one() {
    // Each answer takes 0.3 seconds, so the last comes long after the silence that is allowed.
    let session = session("slow", Duration::from_millis(900));
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let packet = |id| Builder::new(kind::LSTAT, id).bytes(b"/x").done();
            session.begin(packet).unwrap()
        })
        .collect();
    for answer in asked.iter().rev() {
        assert_eq!(session.wait(answer).unwrap().0, kind::ATTRS);
    }
}

#[test]
fn silence_ends_a_session() {
    let session = session("silent", Duration::from_millis(500));
    let start = Instant::now();
    let failure = session.look("/x").unwrap_err();
    assert!(matches!(failure, Failure::Silent(_)), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// What ends the asking of a session, on a thread of its own: it must not take for ever.
fn ended_by(asking: impl FnOnce() -> Failure + Send + 'static) -> Failure {
    let (tell, told) = channel();
    let _detached = std::thread::spawn(move || tell.send(asking()));
    told.recv_timeout(Duration::from_secs(20)).unwrap()
}

/// While one thread writes a file nobody waits for an answer, and the pipe takes nothing.
#[test]
fn a_server_that_takes_nothing_ends_a_session() {
    let session = session("deaf", Duration::from_millis(500));
    let failure = ended_by(move || {
        let packet = |id| Builder::new(kind::WRITE, id).bytes(&[7; 32 << 10]).done();
        let mut sent = (0..1_000).map(|_| session.begin(packet));
        sent.find_map(Result::err).unwrap()
    });
    assert!(matches!(failure, Failure::Silent(_)), "{failure}");
}

#[test]
fn an_answer_in_drops_ends_a_session() {
    let session = session("drops", Duration::from_millis(200));
    let failure = ended_by(move || session.look("/x").unwrap_err());
    assert!(matches!(failure, Failure::Silent(_)), "{failure}");
}
