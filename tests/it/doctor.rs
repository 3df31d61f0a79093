//! `sluis doctor` and `sluis check --no-secrets`: what is broken is named.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use crate::support::{
    Demo, Sluis,
    fleet::{Fleet, on_redis},
    redis::Redis,
    sluis::care_records,
};

fn findings(sluis: &Sluis) -> (bool, Vec<(String, String, String)>) {
    let out = sluis.cli(&["doctor", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let list = list.as_array().unwrap().iter();
    let list = list.map(|f| (text(f, "level"), text(f, "check"), text(f, "text"))).collect();
    (out.status.success(), list)
}

fn has(found: &[(String, String, String)], level: &str, check: &str, part: &str) -> bool {
    found.iter().any(|(l, c, text)| l == level && c == check && text.contains(part))
}

/// [F7] All is well; then the store is open to others, the app is gone, and the server too.
#[test]
fn the_doctor_names_what_does_not_work() {
    let mut app = Demo::start();
    let mut sluis = Sluis::start(&care_records(app.address));
    let (well, found) = findings(&sluis);
    assert!(well, "{found:?}");
    for (check, part) in [
        ("configuration", "has no faults"),
        ("server", "runs"),
        ("store", "answers in"),
        ("keys", "all of 0"),
        ("permissions", "for its owner only"),
        ("disk", "MiB free for the database"),
        ("upstream", "/login answers 200"),
    ] {
        assert!(has(&found, "ok", check, part), "{check}: {found:?}");
    }

    let database = sluis.file("sluis.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    app.process.kill();
    let (well, found) = findings(&sluis);
    assert!(!well);
    assert!(has(&found, "warning", "permissions", "sluis.db"), "{found:?}");
    assert!(has(&found, "failure", "upstream", "refused"), "{found:?}");

    sluis.process.kill();
    let (_, found) = findings(&sluis);
    assert!(has(&found, "warning", "server", "no server answers"), "{found:?}");
    assert!(has(&found, "ok", "store", "answers in"), "{found:?}");
    std::fs::write(sluis.file("master.key"), "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=").unwrap();
    let (well, found) = findings(&sluis);
    assert!(!well && has(&found, "failure", "store", "sealed with a key that is not in the"), "{found:?}");
    sluis.edit("threads: 2", "threads: many");
    let (well, found) = findings(&sluis);
    assert!(!well && has(&found, "failure", "configuration", "threads"), "{found:?}");
}

/// Certificates: of the listener (dates and names) and of an app that cannot be verified.
#[test]
fn the_doctor_looks_at_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["other.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    let listener = format!(
        "https: {{ address: \"127.0.0.1:0\", certificate_file: \"{0}/tls.crt\", key_file: \"{0}/tls.key\" }}",
        dir.path().display()
    );
    let app = Demo::start();
    let apps = care_records(app.address).replace("[\"*\"]", "[ecd.test]");
    let mut sluis = Sluis::start_on(tempfile::tempdir().unwrap(), &listener, &apps);
    let (well, found) = findings(&sluis);
    assert!(!well);
    assert!(has(&found, "failure", "certificate", "has expired"), "{found:?}");
    assert!(has(&found, "failure", "certificate", "is not for ecd.test"), "{found:?}");

    // An app behind TLS whose authority nobody knows: this server's own listener has such a certificate.
    let (http, https) =
        (format!("http://{}", app.address), format!("https://localhost:{}", sluis.address.port()));
    sluis.edit(&http, &https);
    let (_, found) = findings(&sluis);
    assert!(has(&found, "failure", "upstream", "certificate"), "{found:?}");
}

/// [E8] The clock of Redis and that of this machine are held against each other: by a server that runs, and without one.
#[test]
fn e8_a_redis_with_another_clock_is_named() {
    let redis = Redis::start();
    let mut fleet = Fleet::start(1, |_| on_redis(redis.address()), "");
    let (_, found) = findings(&fleet.replicas[0]);
    assert!(has(&found, "ok", "clock", "Redis is 0."), "{found:?}");
    fleet.later(Duration::from_secs(100));
    let (well, found) = findings(&fleet.replicas[0]);
    assert!(well, "it is a warning");
    let told = |found: &[(String, String, String)]| {
        let off = found.iter().find(|(level, check, _)| level == "warning" && check == "clock");
        let off = off.and_then(|(.., text)| {
            let behind = text.strip_prefix("Redis is ")?.strip_suffix(" s behind this machine")?;
            behind.parse::<f64>().ok()
        });
        off.is_some_and(|behind| (99.0..=101.0).contains(&behind))
    };
    assert!(told(&found), "{found:?}");
    fleet.replicas[0].process.kill();
    let (_, found) = findings(&fleet.replicas[0]);
    assert!(told(&found), "{found:?}");
    // An embedded store has no other clock.
    let sluis = Sluis::start(&care_records(fleet.app.address));
    assert!(!findings(&sluis).1.iter().any(|(_, check, _)| check == "clock"));
}

/// Away from the server a secret may be missing; a fault is still one.
#[test]
fn check_works_without_secrets() {
    let mut sluis = Sluis::start(&care_records("127.0.0.1:9".parse().unwrap()));
    sluis.edit("  - file: ", "  - env: SLUIS_NO_SUCH_KEY\n  - file: /no/such/folder/");
    let strict = sluis.cli(&["check"]);
    assert!(!strict.status.success());
    let lenient = sluis.cli(&["check", "--no-secrets"]);
    let said = String::from_utf8_lossy(&lenient.stderr).into_owned();
    assert!(lenient.status.success(), "{said}");
    assert!(said.contains("SLUIS_NO_SUCH_KEY is not set") && said.contains("is not here"), "{said}");
    sluis.edit("threads: 2", "threads: many");
    assert!(!sluis.cli(&["check", "--no-secrets"]).status.success());
}
