//! A compose project as the labels tell it, without compose.

use refloat_testkit::docker::Engine;

use crate::estate::IMAGE;

const SETUP: &str = "mkdir -p /data/sub && echo hello > /data/sub/a && ln /data/sub/a /data/b \
    && ln -s sub/a /data/l && chmod 640 /data/sub/a && chown 12:34 /data/sub/a \
    && mkfifo /data/pipe && echo upload > /uploaded && mkdir -p /srv && echo x > /srv/y";

/// A project of two services with a named and an anonymous volume, a bind, a tmpfs and a network.
pub fn shop(engine: &Engine) {
    let folder = engine.folder().join("shop");
    std::fs::create_dir_all(folder.join("html")).unwrap();
    std::fs::write(folder.join("html/index.html"), "welcome").unwrap();
    std::fs::write(
        folder.join("compose.yml"),
        "services: {web: {env_file: a.env}}\n",
    )
    .unwrap();
    std::fs::write(folder.join("a.env"), "A=1\n").unwrap();
    let folder = folder.display().to_string();
    engine.docker(["network", "create", "--subnet", "10.98.1.0/24", "shop_back"]);
    engine.docker([
        "volume",
        "create",
        "--label",
        "com.docker.compose.project=shop",
        "shop_data",
    ]);
    run(
        engine,
        "store",
        &[
            "--network=shop_back",
            "--ip=10.98.1.9",
            "--network-alias=store",
            "-v",
            "shop_data:/data",
        ],
        &format!("{SETUP} && exec sleep 1000"),
    );
    let html = format!("{folder}/html:/html:ro");
    // Its own file: an engine makes a folder of a path that is missing on the host.
    std::fs::write(format!("{folder}/docker.sock"), "").unwrap();
    let socket = format!("{folder}/docker.sock:/docker.sock");
    run(
        engine,
        "web",
        &[
            "--network=shop_back",
            "--label=com.docker.compose.depends_on=store:service_started:false",
            "-v",
            &html,
            "-v",
            &socket,
            "-v",
            "/scratch",
            "--tmpfs=/cache",
            "--env=API_TOKEN=hunter2",
            "--memory=64m",
            "--restart=unless-stopped",
        ],
        "exec sleep 1000",
    );
    let ready = [
        "exec",
        "shop-store-1",
        "sh",
        "-c",
        "until [ -e /srv/y ]; do sleep 0.1; done",
    ];
    engine.docker(ready);
}

/// Starts a container of the project.
fn run(engine: &Engine, service: &str, options: &[&str], command: &str) {
    let folder = engine.folder().join("shop");
    let folder = folder.display();
    let mut words = vec![
        "run".to_owned(),
        "-d".to_owned(),
        format!("--name=shop-{service}-1"),
        "--label=com.docker.compose.project=shop".to_owned(),
        format!("--label=com.docker.compose.service={service}"),
        format!("--label=com.docker.compose.project.working_dir={folder}"),
        format!("--label=com.docker.compose.project.config_files={folder}/compose.yml"),
    ];
    words.extend(options.iter().map(ToString::to_string));
    words.extend([IMAGE, "sh", "-c", command].map(str::to_owned));
    engine.docker(words);
}
