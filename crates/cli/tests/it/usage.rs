//! Command lines that would not do what they say are refused before anything is done.

use crate::cli_env::CliEnv;

#[test]
fn a_wrong_command_line_is_a_document_too() {
    let env = CliEnv::new();
    for (args, command, message) in [
        (
            &["points", "--bogus"] as &[&str],
            "points",
            "unexpected argument '--bogus' found",
        ),
        (&["nope"], "refloat", "unrecognized subcommand 'nope'"),
        (
            &["restore"],
            "restore",
            "the following required arguments were not provided: <--target <FOLDER>|--to \
             <KIND:ADDRESS|NAME>> <POINT[:PATH]>",
        ),
        (
            &["check", "--read-data-subset", "0/5"],
            "check",
            "invalid value '0/5' for '--read-data-subset <PART>': parts are numbered from 1",
        ),
    ] {
        let document = env.json(args);
        assert_eq!(document["command"], command, "{document:#}");
        assert_eq!(document["exit_code"], 2, "{document:#}");
        assert_eq!(document["error"]["kind"], "usage", "{document:#}");
        assert_eq!(document["error"]["message"], message, "{document:#}");
        assert_eq!(env.code(&[args, &["--json"]].concat()), 2);
    }
    let help = env.succeed(&["points", "--help", "--json"]);
    assert!(help.contains("Usage: refloat points"), "{help}");
    let text = env.run(&["nope"]);
    assert!(
        text.starts_with("exit code: 2\n--- stdout\n--- stderr\nerror: "),
        "{text}"
    );
    let not_asked = env.run(&["points", "a", "--", "--json"]);
    assert!(
        not_asked.starts_with("exit code: 2\n--- stdout\n--- stderr\n"),
        "{not_asked}"
    );
}
