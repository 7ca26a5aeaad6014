//! schemathesis reads the document and tries what it says: every field, every limit, every method, and what is just beside
//! them. All its checks; each run with the same seed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Run, SOON, Site, shared, wait_for};

/// The release that tests/run installs.
const VERSION: &str = "4.32.5";
const SEED: &str = "1";

/// Beside the build, where git does not look; tests/run puts it there.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(format!("schemathesis-{VERSION}"))
        .join("bin/schemathesis");
    assert!(
        path.exists(),
        "{} is missing; tests/run installs it",
        path.display()
    );
    path
}

/// Tries every operation, `examples` random cases each besides those that the document itself suggests.
fn try_all(site: &Site, token: Option<&str>, examples: u32) {
    let config = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/openapi/schemathesis.toml"
    );
    let mut run = Run::new(program())
        .arg("--config-file")
        .arg(config)
        .args(["--no-color", "run", "--checks", "all", "--seed", SEED])
        .args(["--max-examples", &examples.to_string()])
        .args(["--exclude-path", "/events"])
        .args(["--request-timeout", "30", "--warnings", "off"])
        .arg(format!("http://{}/openapi.json", site.control))
        // its example database would make the second run another one than the first
        .env("HOME", site.folder())
        .env("SCHEMATHESIS_HOOKS", "")
        .deadline(Duration::from_mins(5));
    if let Some(token) = token {
        run = run.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let ran = run.run();
    println!(
        "schemathesis {VERSION}, seed {SEED}, {} token, {:.0?}:\n{}",
        token.map_or("without", |_| "with"),
        ran.took(),
        ran.stdout
    );
    ran.exits(0);
}

#[test]
fn it_finds_nothing_with_a_token_and_without() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let secret = "tried-by-schemathesis";
    let file = site.folder().join("token");
    std::fs::write(&file, secret).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = format!("control: {{ listen: \"{}\" }}", site.control);
    let closed = format!(
        "control: {{ listen: \"{}\", tokens: [{{ name: tester, file: {}, may: [read, write] }}] }}",
        site.control,
        file.display()
    );
    assert!(text.contains(&own), "{text}");
    std::fs::write(site.config(), text.replace(&own, &closed)).unwrap();
    let daemon = site.serve();
    assert_eq!(daemon.api().get("/v1/status").status, 401);
    let health = || daemon.api().get("/health").json();
    wait_for("both colors healthy", SOON, || {
        (health()["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    try_all(&site, Some(secret), 30);
    try_all(&site, None, 5);
    // whatever it did to the position, the service is there
    assert_eq!(daemon.api().get("/readyz").status, 200);
}
