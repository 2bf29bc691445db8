//! F1: challenges and logins.

use refloat_testkit::fuzz::{Target, run};
use ureq::http::{HeaderMap, HeaderValue, header};

use super::challenge::Challenge;
use super::docker_config;

#[test]
fn nothing_makes_a_parser_of_challenges_and_logins_panic() {
    let bearer = "Bearer realm=\"https://a/t\",service=\"r\",scope=\"repository:a:pull,push\"";
    let config = r#"{"auths":{"h:5000":{"auth":"YW5uOmh1bnRlcjI=","password":"hunter2"}},
        "credHelpers":{"other":"ecr-login"},"credsStore":""}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let address = "h:5000".parse().unwrap();
    let targets = [
        Target::new(
            "challenge",
            [bearer, "Basic realm=x", "bearer realm=y, a=b"],
            |bytes| {
                let Ok(value) = HeaderValue::from_bytes(bytes) else {
                    return;
                };
                let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
                drop(Challenge::of(&headers));
            },
        ),
        Target::new("Docker's configuration", [config], |bytes| {
            std::fs::write(&path, bytes).unwrap();
            if let Err(error) = docker_config::find(&path, &address) {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }),
    ];
    run("F1 parsers of logins", &targets);
}
