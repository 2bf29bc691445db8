//! C5: the real command with less and less memory, until nothing works any more.

use refloat_testkit::memory_limit::MemoryLimit;

use super::*;

/// The largest limit, in bytes: enough for everything that is done here.
const ENOUGH_BYTES: u64 = 400 << 20;

#[test]
fn a_command_that_runs_out_of_memory_loses_nothing() {
    let Some(group) = MemoryLimit::new("c5") else {
        return;
    };
    let started = Instant::now();
    let env = filled();
    let runs = tier::by_tier(15, 50, 500);
    let (mut done, mut killed, mut refused) = (0, 0, 0);
    let mut limit = ENOUGH_BYTES;
    for turn in 0..runs {
        change(&env, 900 + turn);
        let before = points_before(&env);
        let line = &commands(&env)[(turn % 3) as usize];
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        assert!(group.set(limit), "a limit of {limit}");
        let output = group.around(&env.command(&line)).output().unwrap();
        let what = format!("{line:?} with {limit} bytes: {}", env.show(&output));
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => done += 1,
            // By the kernel, or by an allocation that the library cannot do without.
            (None, Some(9 | 6)) => killed += 1,
            (Some(1), _) => refused += 1,
            other => panic!("{other:?}: {what}"),
        }
        judge_and_go_on(&env, &before, &what);
        // Down by a fifth to 8 MiB, and from the top again; at N by a tenth.
        limit = limit / 10 * tier::by_tier(8, 9, 9);
        if limit < 8 << 20 {
            limit = ENOUGH_BYTES;
        }
    }
    assert_eq!(env.code(&["check", "--read-data"]), 0);
    let what = format!("{runs} runs, {done} done, {killed} killed, {refused} refused");
    tier::report("C5 memory", &what, started);
    assert!(done > 0 && killed > 0, "{what}");
}
