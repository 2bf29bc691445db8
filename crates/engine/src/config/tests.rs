use super::*;

const WHOLE: &str = r#"
repository: {url: ./backups, password: {file: ~/.config/refloat/key}}
repositories:
  offsite:
    url: s3://bucket/prefix
    password: {env: OFFSITE}
    options: {endpoint: "https://s3.example", object-lock: governance, object-lock-period: 30d}
sources:
  web: {docker: {}}
  far:
    docker:
      host: tcp://10.0.0.7:2376
      tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
      images: all
      rootfs: save
      exclude-binds: [/var/log/*]
      consistency: [{containers: "db-*", before: sync, after: [touch, /done], hold: stop}]
  prod:
    kubernetes:
      context: prod
      kubeconfig: kube/config
      namespaces: {names: ["shop*"], exclude: [shop-test], labels: {env: prod}}
      labels: app in (web, db)
      exclude-kinds: [replicasets.apps]
      cluster-wide: none
      versions: all
  hub:
    registry:
      url: https://registry.local:5000
      auth: {basic: {user: ann, password: {command: pass show hub}}}
      ca: ca.pem
      repositories: [team/app, tools]
      exclude-tags: ["*-dev"]
      platforms: [linux/amd64]
      also-known-as: [registry.svc:5000]
      config-file: /etc/docker/registry/config.yml
      requests-at-once: 3
  ghcr: {registry: {url: https://ghcr.io, auth: none, in-use-only: true}}
  ecr: {registry: {url: https://x.amazonaws.com, auth: {helper: ecr-login}, repositories: ["team/*"]}}
  srv: {files: {paths: [/srv/data], exclude: ["*.tmp"], one-file-system: true}}
policies:
  production:
    select:
      - source: web
      - {source: srv, workloads: ["/srv/*"]}
      - {source: prod, namespaces: {labels: {tier: gold}}}
    every: 1h
    deadline: 2h
    copy-to: [offsite]
    keep: {hourly: 24, daily: 7, weekly: 4, monthly: 12, within: 30d, tags: [audit]}
    waive: [{reference: "image:legacy/tool@*", who: "platform team", why: "rebuilt", until: 2027-06-30}]
"#;

/// The message and suggestion that `text` is refused with.
fn refused(text: &str) -> String {
    let error = Config::parse(text).unwrap_err();
    match &error.suggestion {
        Some(word) => format!("{error}; did you mean {word:?}?"),
        None => error.to_string(),
    }
}

#[test]
fn the_whole_schema_is_read() {
    let config = Config::parse(WHOLE).unwrap();
    let policy = &config.policies["production"];
    assert_eq!(
        policy.waive[0].until.0.to_string(),
        "2027-07-01T00:00:00Z",
        "a waiver counts to the end of its day"
    );
    assert_eq!(policy.keep.as_ref().map(|k| k.hourly), Some(24));
    assert_eq!(
        config.repository.unwrap().password,
        Some(PasswordConfig::File("~/.config/refloat/key".into()))
    );
    let SourceConfig::Kubernetes(cluster) = &config.sources["prod"] else {
        panic!("prod is no cluster");
    };
    assert_eq!(cluster.context.as_deref(), Some("prod"));
    assert_eq!(cluster.versions, ServedVersions::All);
    assert_eq!(cluster.namespaces.labels["env"], "prod");
    let SourceConfig::Registry(hub) = &config.sources["hub"] else {
        panic!("hub is no registry");
    };
    assert!(hub.lists_names_only() && !hub.plain_http && !hub.in_use_only);
    let SourceConfig::Registry(ecr) = &config.sources["ecr"] else {
        panic!("ecr is no registry");
    };
    assert!(!ecr.lists_names_only(), "a pattern needs a catalogue");
    let SourceConfig::Docker(far) = &config.sources["far"] else {
        panic!("far is no docker source");
    };
    assert_eq!(
        (far.images, far.rootfs),
        (Images::All, RootFilesystems::Save)
    );
}

#[test]
fn mistakes_are_named_with_place_and_suggestion() {
    for (text, expected) in [
        (
            "soruces: {}",
            r#"unknown key "soruces" at line 1, column 1; did you mean "sources"?"#,
        ),
        (
            "policies:\n  p:\n    select: [{source: web}]\n    evry: 1h\nsources: {web: {docker: {}}}",
            r#"unknown key "evry" at line 4, column 5; did you mean "every"?"#,
        ),
        (
            "sources:\n  web: {dcoker: {}}",
            r#"unknown value "dcoker" at line 2, column 9; did you mean "docker"?"#,
        ),
        (
            "sources:\n  shop: {vault: {}}",
            "sources of kind vault are not supported yet at line 2, column 10",
        ),
        (
            "sources:\n  shop: {kubernetes: {namespace: shop}}",
            r#"unknown key "namespace" at line 2, column 23; did you mean "namespaces"?"#,
        ),
        (
            "sources: {web: {docker: {}}}\npolicies:\n  p: {select: [{source: web, namespaces: {names: [a]}}]}",
            r#"source "web" of policy "p" is no Kubernetes cluster and has no namespaces at line 3, column 25"#,
        ),
        (
            "sources: {web: {docker: {}}}\npolicies:\n  p: {select: [{source: web}], cron: \"15 * * * *\"}",
            "cron schedules are not supported yet at line 3, column 32",
        ),
        (
            "sources: {web: {docker: {}}}\npolicies:\n  p: {select: [{source: wbe}]}",
            r#"source "wbe" is not declared under sources at line 3, column 25; did you mean "web"?"#,
        ),
        (
            "repositories: {far: {url: ./far}}\nsources: {web: {docker: {}}}\npolicies:\n  p: {select: [{source: web}], copy-to: [fra]}",
            r#"repository "fra" is not declared under repositories at line 4, column 42; did you mean "far"?"#,
        ),
        (
            "sources: {web: {docker: {images: used}}}",
            r#"unknown value "used" at line 1, column 34"#,
        ),
        (
            "policies: {p: {}}",
            r#"key "select" is missing at line 1, column 15"#,
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    let policy = |extra: &str| {
        format!(
            "sources: {{web: {{docker: {{}}}}}}\npolicies:\n  p: {{select: [{{source: web}}], {extra}}}"
        )
    };
    for (text, expected) in [
        (policy("every: soon"), "is not a period"),
        (policy("keep: {}"), "keeps nothing"),
        (
            policy("waive: [{reference: a, who: b, why: c, until: 2027-13-01}]"),
            "is not a date",
        ),
        (
            policy("waive: [{reference: \"[\", who: b, why: c, until: 2027-01-01}]"),
            "pattern",
        ),
        (
            "sources: {srv: {files: {paths: [srv]}}}".into(),
            "is not absolute",
        ),
        (
            "sources: {srv: {files: {paths: []}}}".into(),
            "has no paths",
        ),
        ("sources: {\"a/b\": {docker: {}}}".into(), "source name"),
        ("sources: {h: {registry: {url: \"\"}}}".into(), "has no url"),
        (
            "sources: {h: {registry: {url: h, images: [a:1], tags: [x]}}}".into(),
            "says all",
        ),
        (
            "sources: {h: {registry: {url: h, images: [a:1], in-use-only: true}}}".into(),
            "says all",
        ),
        (
            "sources: {h: {registry: {url: h, auth: {basic: {user: a, password: hunter2}}}}}"
                .into(),
            "line 1",
        ),
        ("repository: {password: hunter2}".into(), "line 1"),
        (
            "sources: {a: {kubernetes: {in-cluster: true, context: b}}}".into(),
            "not by both",
        ),
        ("sources: [".into(), "line"),
    ] {
        let message = refused(&text);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(
        !refused("repository: {password: hunter2}").contains("hunter2"),
        "a password in the wrong place must not be repeated"
    );
    let registry = "sources: {h: {registry: {url: h, auth: {token: hunter2}}}}";
    assert!(!refused(registry).contains("hunter2"));
}

#[test]
fn the_checked_in_schema_is_current() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/schema/refloat.schema.json"
    );
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, Config::json_schema()).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        Config::json_schema(),
        "run UPDATE_SCHEMA=1 cargo test -p refloat-engine schema"
    );
}
