//! Users, passwords and client names as the scripts find them inside a container. Shell scripts
//! stand in for the clients and note what they were given; every case runs with each shell that
//! is here, because images bring different ones.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::playground::Server;

/// Shells as images have them: Debian's, Alpine's, Red Hat's.
const SHELLS: [&str; 3] = ["/bin/dash", "/bin/busybox", "/bin/bash"];

/// Runs the survey in a container and gives what the stub of its client noted.
fn check(image: &str, environment: &[&str], command: &[&str], stub: (&str, &str), expected: &str) {
    for shell in SHELLS.iter().filter(|shell| Path::new(shell).exists()) {
        let script = format!("{} >\"$HOME/seen\"", stub.1);
        let server = Server::of_stubs(image, environment, command, &[(stub.0, &script)]);
        let sh = server.folder.path().join("sh");
        std::fs::remove_file(&sh).unwrap();
        symlink(shell, &sh).unwrap();
        let finished = server.run(&server.recipe.survey(), b"");
        assert_eq!(
            finished.code,
            Some(0),
            "{shell} {environment:?}: {finished:?}"
        );
        assert_eq!(finished.stderr, "", "{shell} {environment:?}");
        assert_eq!(server.noted("seen"), expected, "{shell} {environment:?}");
    }
}

#[test]
fn postgresql_users_and_passwords_are_found() {
    let stub = ("psql", r#"printf '%s|%s' "$PGUSER" "$PGPASSWORD""#);
    let official = |environment: &[&str], expected| {
        check("postgres:15", environment, &[], stub, expected);
    };
    official(&[], "postgres|");
    official(
        &["POSTGRES_USER=u", "POSTGRES_PASSWORD=a 'b' $c `d` \\e"],
        "u|a 'b' $c `d` \\e",
    );
    official(&["PGUSER=u", "PGPASSWORD=p"], "u|p");
    let environment = [
        "POSTGRESQL_USERNAME=app",
        "POSTGRESQL_PASSWORD=a",
        "POSTGRESQL_POSTGRES_PASSWORD=b",
    ];
    check("bitnami/postgresql", &environment, &[], stub, "postgres|b");
    check("bitnami/postgresql", &environment[..2], &[], stub, "app|a");
}

#[test]
fn passwords_are_read_from_the_files_that_variables_name() {
    let stub = ("psql", r#"printf '%s|%s' "$PGUSER" "$PGPASSWORD""#);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "from a file\n").unwrap();
    let variable = format!("POSTGRES_PASSWORD_FILE={}", secret.display());
    check(
        "postgres:15",
        &[&variable],
        &[],
        stub,
        "postgres|from a file",
    );
    let missing = "POSTGRES_PASSWORD_FILE=/no/such/file";
    check("postgres:15", &[missing], &[], stub, "postgres|");
}

#[test]
fn mysql_users_passwords_and_client_names_are_found() {
    let note = r#"printf '%s|%s' "$1" "$MYSQL_PWD""#;
    for client in ["mariadb", "mysql"] {
        let mysql = |environment: &[&str], expected| {
            check("mysql:8", environment, &[], (client, note), expected);
        };
        mysql(&["MYSQL_ALLOW_EMPTY_PASSWORD=yes"], "--user=root|");
        mysql(
            &[
                "MYSQL_ROOT_PASSWORD=p",
                "MYSQL_USER=app",
                "MYSQL_PASSWORD=a",
            ],
            "--user=root|p",
        );
        mysql(&["MARIADB_ROOT_PASSWORD=p q"], "--user=root|p q");
        mysql(
            &[
                "MYSQL_RANDOM_ROOT_PASSWORD=yes",
                "MYSQL_USER=app",
                "MYSQL_PASSWORD=a",
            ],
            "--user=app|a",
        );
    }
}

#[test]
fn redis_passwords_and_client_names_are_found() {
    let note = r#"printf '%s|%s' "${REDISCLI_AUTH-unset}" "$*""#;
    for client in ["redis-cli", "valkey-cli"] {
        let redis = |environment: &[&str], command: &[&str], expected| {
            check("redis:7", environment, command, (client, note), expected);
        };
        redis(&[], &["redis-server"], "unset|INFO");
        redis(&["REDIS_PASSWORD=p"], &[], "p|INFO");
        redis(
            &[],
            &["redis-server", "--requirepass", "q r", "--port", "7000"],
            "q r|-p 7000 INFO",
        );
        let script = "exec redis-server --requirepass \"$REDIS_PASSWORD\"";
        redis(&["REDIS_PASSWORD=p"], &["sh", "-c", script], "p|INFO");
    }
}

/// There is no MySQL here: what is checked is which options its own tools would get.
#[test]
fn mysqls_own_tools_get_their_own_options() {
    let dump = r#"if [ "$*" = --version ]; then echo 'mysqldump  Ver 8.0.36 for Linux'; exit; fi
echo "$*" >>"$HOME/seen""#;
    let client = "printf 'user\\ndb\\nrole_edges\\n'";
    let stubs = [("mysqldump", dump), ("mysql", client)];
    let server = Server::of_stubs("mysql:8", &["MYSQL_ROOT_PASSWORD=p"], &[], &stubs);
    let survey = server
        .recipe
        .parse_survey(Some(0), b"database 73686F70\nend\n");
    for step in server.recipe.dumps(&survey.unwrap()) {
        assert_eq!(server.run(&step.exec, b"").code, Some(0));
    }
    assert_eq!(
        server.noted("seen"),
        "--user=root --set-gtid-purged=OFF --no-tablespaces --no-create-info --replace --comments \
         --skip-dump-date mysql user db role_edges\n\
         --user=root --set-gtid-purged=OFF --no-tablespaces --single-transaction --quick --routines \
         --triggers --events --hex-blob --default-character-set=utf8mb4 --comments --skip-dump-date \
         --add-drop-database --databases -- shop\n"
    );
}
