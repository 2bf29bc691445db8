//! Drift of a real API server's objects from a point and from Git folders.

use serde_json::Value;

use crate::cli_env::CliEnv;
use crate::cluster_git::{create, source};
use crate::control_plane::ControlPlane;

/// Name, state and whether it was by hand, of the differences from one side.
fn found(report: &Value, against: &str) -> Vec<(String, String, bool)> {
    let differences = report["differences"].as_array().unwrap().iter();
    let mut found: Vec<_> = differences
        .filter(|d| d["against"] == against)
        .map(|d| {
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            (
                text(&d["object"]["name"]),
                text(&d["state"]),
                d["by_hand"] == true,
            )
        })
        .collect();
    found.sort();
    found
}

fn of(name: &str, state: &str, by_hand: bool) -> (String, String, bool) {
    (name.to_owned(), state.to_owned(), by_hand)
}

fn difference<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut differences = report["differences"].as_array().unwrap().iter();
    differences.find(|d| d["object"]["name"] == name).unwrap()
}

/// Who wrote what, and that no value of a Secret is told.
fn written(report: &Value) {
    let fields = &difference(report, "edited")["fields"];
    assert_eq!(fields.as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &fields[0]["field"],
            &fields[0]["before"],
            &fields[0]["after"]
        ),
        (&"data.k".into(), &"one".into(), &"two".into())
    );
    let manager = &fields[0]["managers"][0];
    assert_eq!(manager["name"], "kubectl-edit");
    let time = manager["time"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    let age = jiff::Timestamp::now().duration_since(time);
    assert!(age.as_secs().abs() < 300, "{time}");
    let operated = &difference(report, "operated")["fields"][0];
    assert_eq!(operated["managers"][0]["name"], "some-operator");
    let secret = &difference(report, "s")["fields"][0];
    assert_eq!(
        (&secret["field"], &secret["after"]),
        (&"data.p".into(), &"***".into())
    );
    for value in ["hunter", "aHVudGVyM"] {
        assert!(!report.to_string().contains(value), "{report}");
    }
}

#[test]
fn a_person_a_program_and_a_secret_are_told_apart() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    for name in ["same", "edited", "gone", "operated"] {
        create(&cluster, name, "one");
    }
    let password = "--from-literal=p=hunter2";
    cluster.kubectl(&["create", "secret", "generic", "s", password]);
    let source = source(&cluster);
    env.succeed(&["backup", "--source", &source]);
    assert_eq!(env.code(&["drift", "--source", &source]), 0);
    env.succeed(&["export", "--all", "--git", "out.git"]);
    let against_git = ["drift", "--git", "out.git", "--source", &source];
    assert_eq!(env.code(&against_git), 0);

    cluster.edit("configmap/edited", "s/one/two/");
    let operator = ["--field-manager", "some-operator"];
    let patch = r#"{"data":{"more":"by a program"}}"#;
    let patch = ["patch", "configmap", "operated", "-p", patch];
    cluster.kubectl(&[&patch[..], &operator].concat());
    cluster.kubectl(&["delete", "configmap", "gone"]);
    create(&cluster, "new", "one");
    let secret = r#"{"stringData":{"p":"hunter3"}}"#;
    cluster.kubectl(&["patch", "secret", "s", "-p", secret]);

    let report = env.json(&["drift", "latest", "--source", &source]);
    assert_eq!(
        (&report["exit_code"], &report["complete"]),
        (&4.into(), &true.into())
    );
    assert_eq!(
        found(&report, "point"),
        [
            of("edited", "changed", true),
            of("gone", "missing", false),
            of("new", "extra", true),
            of("operated", "changed", false),
            of("s", "changed", true),
        ]
    );
    written(&report);
    let text = env.run(&["drift", "latest", "--source", &source, "--by-hand"]);
    assert!(text.contains("exit code: 4"), "{text}");
    assert!(
        text.contains("data.k: \"one\" -> \"two\"\n        by kubectl-edit "),
        "{text}"
    );
    assert!(
        text.contains("missing  ConfigMap default/gone"),
        "who removed it, nobody knows: {text}"
    );
    assert!(
        !text.contains("some-operator") && !text.contains("aHVudGVyM"),
        "{text}"
    );

    // Against Git: what a program adds is no drift there, and Secrets are not in it.
    let both = ["drift", "latest", "--git", "out.git", "--source", &source];
    let report = env.json(&both);
    assert_eq!(
        found(&report, "git"),
        [of("edited", "changed", true), of("gone", "missing", false)]
    );
    assert_eq!(found(&report, "point").len(), 5);
    let report = env.json(&[&against_git[..], &["--extra"]].concat());
    assert!(
        found(&report, "git").contains(&of("new", "extra", true)),
        "{report}"
    );
}

/// What somebody wrote, in their words and not the server's.
const WRITTEN: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, annotations: null}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        command: []
        ports: [{containerPort: 80}]
        resources: {limits: {cpu: 0.5, memory: 1024Mi}}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {selector: {app: web}, ports: [{port: 80}]}
- apiVersion: v1
  kind: Secret
  metadata: {name: s, namespace: default}
  stringData: {p: hunter2}
";

#[test]
fn what_somebody_wrote_is_compared_without_what_the_server_adds() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    env.write("written/all.yaml", WRITTEN);
    env.write("written/kustomization.yaml", "resources: [all.yaml]\n");
    env.write("written/.git/config.yaml", "no: object\n");
    let file = env.path("written/all.yaml");
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    let source = source(&cluster);
    let drift = ["drift", "--git", "written", "--source", &source];
    let report = env.json(&drift);
    assert_eq!(report["differences"], Value::Array(Vec::new()), "{report}");
    assert_eq!(
        (&report["exit_code"], &report["compared"]),
        (&0.into(), &3.into())
    );

    // By hand: a declared field, a field that nobody declared, and a Secret.
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=3"]);
    cluster.edit("deployment/web", "s/500m/600m/");
    cluster.kubectl(&["label", "service", "web", "by=hand"]);
    cluster.edit("secret/s", "s/aHVudGVyMg==/aHVudGVyMw==/");
    let report = env.json(&drift);
    assert_eq!(
        found(&report, "git"),
        [
            of("s", "changed", true),
            of("web", "changed", true),
            of("web", "changed", true)
        ]
    );
    let fields: Vec<&str> = report["differences"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|d| d["fields"].as_array().unwrap())
        .map(|f| f["field"].as_str().unwrap())
        .collect();
    for field in [
        "data.p",
        "metadata.labels.by",
        "spec.template.spec.containers[web].resources.limits.cpu",
    ] {
        assert!(fields.contains(&field), "{field}: {report}");
    }
    assert!(!report.to_string().contains("aHVudGVyM"), "{report}");
    // One that is for any namespace could be meant for several.
    assert_eq!(report["complete"], true, "{report}");
    cluster.kubectl(&["create", "namespace", "zzz"]);
    let tcp = "--tcp=80";
    cluster.kubectl(&["create", "service", "clusterip", "web", tcp, "-n", "zzz"]);
    let report = env.json(&drift);
    assert_eq!(report["complete"], false, "{report}");
    let told = report["findings"].to_string();
    assert!(told.contains("several namespaces"), "{report}");
    cluster.kubectl(&["delete", "namespace", "zzz", "--wait=false"]);
    cluster.kubectl(&["delete", "service", "web", "-n", "zzz"]);
    // What is encrypted is counted.
    let sealed = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\n\
                  stringData: {p: 'ENC[x]'}\nsops: {mac: 'ENC[y]'}\n";
    env.write("sealed/s.yaml", sealed);
    let report = env.json(&["drift", "--git", "sealed", "--source", &source]);
    assert_eq!(report["exit_code"], 0, "{report}");
    let told = report["findings"].to_string();
    assert!(told.contains("1 encrypted document in Git"), "{report}");
    // What is written badly is not passed over in silence.
    env.write("written/template.yaml", "name: {{ .Values.name }}\n\tx\n");
    let report = env.json(&drift);
    assert_eq!(report["complete"], false, "{report}");
    // Without a cluster: a point and the folder. (The image is in no source.)
    assert_eq!(env.code(&["backup", "--source", &source]), 3);
    let offline = ["drift", "latest", "--git", "written", "--offline"];
    assert_eq!(found(&env.json(&offline), "git").len(), 3);
    a_look_does_not_wait_for_the_repository(&env, &source);
}

/// It only says whether a point has the image that is used.
fn a_look_does_not_wait_for_the_repository(env: &CliEnv, source: &str) {
    let begun = std::time::Instant::now();
    let output = env
        .command(&["-v", "discover", "--source", source])
        .env("REFLOAT_REPOSITORY", "rest:http://127.0.0.1:1/")
        .output()
        .unwrap();
    let (text, took) = (env.show(&output), begun.elapsed());
    assert!(text.contains("not looked into for images"), "{text}");
    // As long as work depends on it, it is asked for 20 s.
    assert!(took < std::time::Duration::from_secs(15), "{took:?}");
}

#[test]
fn what_is_not_selected_any_more_is_not_called_missing() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    for name in ["kept", "gone"] {
        create(&cluster, name, "one");
    }
    let configure = |kinds: &str| {
        let config = format!(
            "sources:\n  prod:\n    kubernetes: {{kubeconfig: '{}', cluster-wide: none{kinds}}}\n\
             policies:\n  gold: {{select: [{{source: prod}}]}}\n",
            cluster.kubeconfig.display()
        );
        env.write("refloat.yaml", &config);
    };
    configure("");
    env.succeed(&["backup", "gold"]);
    assert_eq!(env.code(&["drift"]), 0);
    configure(", exclude-kinds: [configmaps]");
    let report = env.json(&["drift"]);
    assert_eq!(
        (&report["exit_code"], &report["differences"]),
        (&3.into(), &Value::Array(Vec::new())),
        "{report}"
    );
    let told = report["findings"].to_string();
    assert!(told.contains("core/v1/configmaps/default"), "{told}");
    assert!(told.contains("2 objects of the point are there"), "{told}");
    cluster.kubectl(&["delete", "configmap", "gone"]);
    let report = env.json(&["drift"]);
    assert_eq!(report["exit_code"], 4, "{report}");
    assert_eq!(found(&report, "point"), [of("gone", "missing", false)]);
    assert_eq!(report["complete"], false, "{report}");
    // What the policy leaves out is compared with --source, and that is said.
    let report = env.json(&["drift", "latest", "--source", &source(&cluster)]);
    assert!(
        report["findings"]
            .to_string()
            .contains("looks as if it were new"),
        "{report}"
    );
}

#[test]
fn what_cannot_be_seen_or_is_not_selected_is_not_called_missing_or_extra() {
    let Some(cluster) = ControlPlane::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
                      metadata: {name: things.x.example}\nspec: {group: x.example, scope: \
                      Namespaced, names: {kind: Thing, plural: things}, versions: [{name: v1, \
                      served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n";
    env.write("definition.yaml", definition);
    let apply = |name: &str| {
        let file = env.path(name);
        cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    };
    apply("definition.yaml");
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/things.x.example",
    ]);
    let thing = "apiVersion: x.example/v1\nkind: Thing\nmetadata: {name: t, namespace: default}\n";
    env.write("thing.yaml", thing);
    apply("thing.yaml");
    cluster.kubectl(&["create", "namespace", "other"]);
    let config = format!(
        "repository: {{url: ./repo}}\nsources:\n  prod: {{kubernetes: {{kubeconfig: {}}}}}\n\
         policies:\n  one: {{select: [{{source: prod, namespaces: {{names: [default]}}}}]}}\n",
        cluster.kubeconfig.display()
    );
    env.write("refloat.yaml", &config);
    env.succeed(&["backup", "-c", "refloat.yaml", "one"]);
    // Outside of what the policy selects.
    cluster.kubectl(&["create", "configmap", "x", "-n", "other"]);
    let drift = ["drift", "-c", "refloat.yaml"];
    assert_eq!(env.code(&drift), 0, "{}", env.run(&drift));
    // Its group is served by nobody any more: nothing is known of its objects.
    let service = "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: \
                   {name: v1.x.example}\nspec: {group: x.example, version: v1, \
                   groupPriorityMinimum: 1000, versionPriority: 15, insecureSkipTLSVerify: true, \
                   service: {name: nobody, namespace: default}}\n";
    env.write("service.yaml", service);
    // While there is a definition, the server puts its own entry back.
    cluster.kubectl(&["delete", "crd", "things.x.example"]);
    // The server notices within seconds.
    let report = (0..40)
        .map(|_| {
            apply("service.yaml");
            std::thread::sleep(std::time::Duration::from_millis(500));
            env.json(&drift)
        })
        .find(|report| report["complete"] == false)
        .unwrap();
    assert!(
        !report["differences"].to_string().contains("Thing"),
        "{report}"
    );
    assert!(
        report["findings"].to_string().contains("x.example/v1"),
        "{report}"
    );
    // A point with gaps is not equal to what it does not show.
    assert_eq!(env.code(&["backup", "-c", "refloat.yaml", "one"]), 3);
    env.write("thing/t.yaml", thing);
    let offline = ["drift", "latest", "--git", "thing", "--offline"];
    let report = env.json(&offline);
    assert_eq!(report["complete"], false, "{report}");
    assert_eq!(report["differences"], Value::Array(Vec::new()), "{report}");
    // The point's cluster goes by another name now: what the point has of it is not passed over.
    let renamed = config
        .replace("prod:", "new:")
        .replace("source: prod", "source: new");
    env.write("renamed.yaml", &renamed);
    let report = env.json(&["drift", "-c", "renamed.yaml"]);
    let told = report["findings"].to_string();
    assert!(told.contains("source prod"), "{report}");
    assert_eq!(report["complete"], false, "{report}");
}
