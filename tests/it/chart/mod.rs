//! [F5] The Helm chart, rendered by real Helm 3 and Helm 4: what comes out is whole, closed, and configures the real
//! binary; what must not be is refused in words.

mod helm;
mod refused;
mod sound;

use std::collections::BTreeSet;

use helm::{Chart, HELMS, Helm, parent_chart};
use serde_json::{Value, json};
use sound::Objects;

/// One Pod with an embedded store.
pub const GATEWAY: &str = "ci/gateway-sqlite-values.yaml";
/// An app with Sluis in its Pod.
pub const SIDECAR: &str = "ci/sidecar-sqlite-values.yaml";

/// Redis instead of SQLite.
fn redis() -> Value {
    json!({ "kind": "redis", "redis": { "config": { "url": "redis://redis:6379", "username": "sluis", "password": { "file": "/etc/sluis/redis/password" } }, "existingSecret": "sluis-redis" } })
}

/// Every option in one place: name, file, what is set beside it.
fn options() -> Vec<(&'static str, &'static str, Value)> {
    let https = json!({ "https": { "enabled": true, "existingSecret": "sluis-tls" } });
    let only_https =
        json!({ "http": { "enabled": false }, "https": { "enabled": true, "existingSecret": "t" } });
    vec![
        ("the smallest gateway", GATEWAY, json!({})),
        ("the smallest sidecar", SIDECAR, json!({})),
        ("several replicas on Redis", GATEWAY, json!({ "replicas": 3, "store": redis() })),
        ("a sidecar on Redis", SIDECAR, json!({ "replicas": 2, "store": redis() })),
        (
            "mail with a password and a root",
            GATEWAY,
            json!({ "mail": { "existingSecret": "sluis-mail", "config": {
                "smtp": "smtps://mail.example.org:465",
                "username": "sluis",
                "password": { "file": "/etc/sluis/mail/password" },
                "ca_file": "/etc/sluis/mail/ca.crt",
                "from": "Sluis <sluis@example.org>",
                "language": "nl",
                "time_zone": "Europe/Amsterdam",
                "administrators": ["it@example.org"],
            } } }),
        ),
        (
            "mail through a server beside it",
            SIDECAR,
            json!({ "mail": { "config": { "smtp": "smtp://localhost:25", "starttls": "none", "from": "s@example.org" } } }),
        ),
        (
            "plain and TLS, IPv6",
            GATEWAY,
            json!({ "listen": https.as_object().map(|o| {
            let mut o = o.clone();
            o.insert("host".into(), json!("::"));
            o
        }) }),
        ),
        (
            "TLS alone, by load balancer",
            GATEWAY,
            json!({
                "listen": only_https,
                "service": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": { "a": "b" } },
            }),
        ),
        ("a sidecar with TLS", SIDECAR, json!({ "listen": https })),
        (
            "other ports, PROXY protocol",
            GATEWAY,
            json!({
                "listen": { "http": { "port": 8081, "proxyProtocol": "required" }, "operations": { "port": 9999 } },
                "service": { "httpPort": 8888 },
            }),
        ),
        (
            "ingress",
            GATEWAY,
            json!({
                "ingress": { "enabled": true, "className": "nginx", "annotations": { "a": "b" }, "tlsSecret": "ecd-tls" },
                "networkPolicy": { "from": [{ "namespaceSelector": { "matchLabels": { "name": "ingress" } } }] },
            }),
        ),
        (
            "ingress with hosts of its own",
            SIDECAR,
            json!({ "ingress": { "enabled": true, "hosts": ["*.example.org"] } }),
        ),
        (
            "route",
            GATEWAY,
            json!({
                "httpRoute": { "enabled": true, "parentRefs": [{ "name": "public", "namespace": "infra", "sectionName": "https" }] },
            }),
        ),
        (
            "monitoring",
            GATEWAY,
            json!({
                "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
                "prometheusRule": { "enabled": true, "labels": { "release": "prometheus" } },
                "networkPolicy": { "metricsFrom": [{ "namespaceSelector": { "matchLabels": { "name": "monitoring" } } }] },
            }),
        ),
        (
            "a sidecar, watched",
            SIDECAR,
            json!({
                "serviceMonitor": { "enabled": true },
                "networkPolicy": { "metricsFrom": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }] },
            }),
        ),
        (
            "administrators",
            GATEWAY,
            json!({
                "listen": { "admin": { "enabled": true, "existingSecret": "sluis-admin" } },
                "networkPolicy": { "adminFrom": [{ "namespaceSelector": { "matchLabels": { "name": "care-it" } } }] },
                "service": { "type": "LoadBalancer" },
                "config": { "admin": { "rate": 60 } },
            }),
        ),
        (
            "administrators of a sidecar, from nowhere yet",
            SIDECAR,
            json!({
                "listen": { "admin": { "enabled": true, "port": 9443, "existingSecret": "sluis-admin" }, "https": https["https"] },
                "serviceMonitor": { "enabled": true }, "networkPolicy": { "metricsFrom": [{ "podSelector": {} }] },
            }),
        ),
        (
            "nothing optional",
            GATEWAY,
            json!({
                "networkPolicy": { "enabled": false }, "podDisruptionBudget": { "enabled": false },
                "topologySpread": { "enabled": false }, "serviceAccount": { "create": false },
                "store": { "sqlite": { "persistence": { "existingClaim": "old-data" } } },
            }),
        ),
        (
            "everything about Pods",
            GATEWAY,
            json!({
                "nameOverride": "gate", "commonLabels": { "team": "care" }, "podLabels": { "a": "b" },
                "podAnnotations": { "c": "d" }, "nodeSelector": { "disk": "ssd" }, "priorityClassName": "high",
                "tolerations": [{ "key": "x", "operator": "Exists" }],
                "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "k", "operator": "In", "values": ["v"] }] } ] } } },
                "image": { "digest": format!("sha256:{}", "0a".repeat(32)), "pullSecrets": ["pull"], "pullPolicy": "Always" },
                "keys": { "names": ["new.key", "master.key"] }, "runAs": { "user": 2000, "group": 3000 },
                "resources": { "limits": { "cpu": "2", "memory": "1Gi" } },
                "podDisruptionBudget": { "maxUnavailable": "25%" },
                "topologySpread": { "whenUnsatisfiable": "DoNotSchedule" },
                "serviceAccount": { "name": "gate", "annotations": { "e": "f" } },
                "shutdown": { "delaySeconds": 20, "drainSeconds": 300 },
                "config": { "threads": 0, "prefix": "/.mfa", "limits": { "body_bytes": 10_485_760, "header_bytes": "32KiB" },
                    "log": { "filter": "info,sluis::proxy=debug", "format": "text" } },
                "store": { "sqlite": { "persistence": { "storageClassName": "fast", "accessMode": "ReadWriteOncePod", "size": "20Gi", "keep": false } } },
            }),
        ),
        (
            "an app that needs more",
            SIDECAR,
            json!({
                "sidecar": {
                    "app": {
                        "name": "wiki", "command": ["/bin/wiki"], "args": ["--bind", "127.0.0.1:8000"],
                        "envFrom": [{ "secretRef": { "name": "wiki" } }],
                        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
                        "resources": { "requests": { "memory": "64Mi" } },
                        "livenessProbe": { "exec": { "command": ["/bin/healthy"] } },
                        "securityContext": { "runAsUser": 33, "readOnlyRootFilesystem": true },
                        "preStopSeconds": 5, "terminationSeconds": 60,
                    },
                    "volumes": [{ "name": "tmp", "emptyDir": {} }],
                },
            }),
        ),
    ]
}

/// Helm finds nothing to say about the chart, in either mode.
#[test]
fn f5_the_chart_is_linted() {
    for helm in HELMS {
        for file in [GATEWAY, SIDECAR] {
            let chart = Chart::ours();
            let said = helm.run(&["lint", "--strict", &chart.path, "--values", &chart.file(file)]).unwrap();
            assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{helm:?} {file}: {said}");
        }
    }
}

/// Every option renders the same with both, and its parts agree with each other.
#[test]
fn f5_every_option_renders_and_its_parts_agree() {
    for (name, file, set) in options() {
        let chart = Chart::ours();
        let rendered =
            HELMS.map(|helm| helm.template(&chart, &[file], &set).unwrap_or_else(|e| panic!("{name}: {e}")));
        let [old, new] = rendered.map(|text| Objects::read(&text));
        assert_eq!(old.sorted(), new.sorted(), "{name}: both versions of Helm make the same");
        old.assert_sound(name);
    }
}

/// Kubernetes' own schemas, strictly, from the oldest version that the chart allows to the newest known.
#[test]
fn f5_kubernetes_knows_every_field() {
    let dir = tempfile::tempdir().unwrap();
    let chart = Chart::ours();
    let mut plain = BTreeSet::new();
    let mut custom = Vec::new();
    for (_, file, set) in options() {
        let objects = Objects::read(&Helm::Four.template(&chart, &[file], &set).unwrap());
        for object in objects.all {
            if sound::is_custom(&object) {
                custom.push(object);
            } else {
                plain.insert(object.to_string());
            }
        }
    }
    assert!(plain.len() > 40 && custom.len() >= 4, "{} and {}", plain.len(), custom.len());
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, plain.iter().map(|object| format!("---\n{object}\n")).collect::<String>()).unwrap();
    for version in ["1.30", "1.33", "1.37"] {
        let arguments = ["-k", version, "--strict", file.to_str().unwrap()];
        let said = helm::tool("venv/bin/kubernetes-validate", &arguments, "");
        let said = said.unwrap_or_else(|said| panic!("{version}: {said}"));
        assert_eq!(said.matches(" passed for ").count(), plain.len(), "{version}: each had a schema: {said}");
    }
    let models = helm::repository("tests/chart/models.mjs");
    let modules = helm::repository("tests/.cache/node_modules");
    let said = helm::run("node", &[&models, &modules], &Value::from(custom).to_string()).unwrap();
    for kind in ["HTTPRoute", "ServiceMonitor", "PrometheusRule"] {
        assert!(said.contains(&format!("ok {kind}")), "{said}");
    }
}

/// What a schema of the wrong version, or none, would let through: the check itself can fail.
#[test]
fn the_check_against_kubernetes_can_fail() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.json");
    let object =
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x" }, "spec": { "port": [] } });
    std::fs::write(&file, object.to_string()).unwrap();
    let arguments = ["-k", "1.37", "--strict", "--quiet", file.to_str().unwrap()];
    assert!(helm::tool("venv/bin/kubernetes-validate", &arguments, "").is_err());
}

/// The real binary accepts every rendered configuration, and it says what the objects around it say.
#[test]
fn f5_the_rendered_configuration_passes_check() {
    let schema = helm::run(env!("CARGO_BIN_EXE_sluis"), &["schema"], "").unwrap();
    for (name, file, set) in options() {
        if set.pointer("/store/kind").is_some() && !schema.contains("\"sentinel\"") {
            continue; // a build without Redis
        }
        let objects = Objects::read(&Helm::Four.template(&Chart::ours(), &[file], &set).unwrap());
        objects.assert_accepted(name);
    }
}

/// A change that a running Sluis takes over restarts nothing; one that it does not, does.
#[test]
fn f5_only_what_cannot_be_taken_over_restarts_pods() {
    let annotation = |set: &Value| {
        let objects = Objects::read(&Helm::Four.template(&Chart::ours(), &[GATEWAY], set).unwrap());
        let deployment = objects.one("Deployment");
        deployment.pointer("/spec/template").unwrap().clone()
    };
    let first = annotation(&json!({}));
    let apps = |app: Value| json!({ "config": { "apps": [app] } });
    let mut app: Value = serde_json::from_str(
        r#"{"id":"other","hosts":["other.example.org"],"upstreams":["http://other:80"],"login":{}}"#,
    )
    .unwrap();
    assert_eq!(first, annotation(&apps(app.clone())), "another app");
    app["policy"] = json!([{ "require": { "validity": "1h" } }]);
    assert_eq!(first, annotation(&apps(app)), "another policy");
    assert_eq!(first, annotation(&json!({ "keys": { "names": ["new.key", "master.key"] } })), "a new key");
    assert_eq!(first, annotation(&json!({ "config": { "limits": { "header_fields": 50 } } })), "a limit");
    for set in [json!({ "config": { "threads": 3 } }), json!({ "listen": { "http": { "port": 8081 } } })] {
        assert_ne!(first, annotation(&set), "{set}");
    }
}

/// Every alert is PromQL, over series and label values that the real binary has from its first moment.
#[tokio::test]
async fn f6_alerts_name_series_that_exist() {
    use crate::support::{Demo, Sluis, sluis::care_records};

    let set = json!({
        "serviceMonitor": { "enabled": true }, "prometheusRule": { "enabled": true },
        "networkPolicy": { "metricsFrom": [{ "podSelector": {} }] },
    });
    let objects = Objects::read(&Helm::Four.template(&Chart::ours(), &[GATEWAY], &set).unwrap());
    let rules =
        objects.one("PrometheusRule").pointer("/spec/groups/0/rules").unwrap().as_array().unwrap().clone();
    let expressions: Vec<&str> = rules.iter().map(|rule| rule["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() >= 8);
    let names: Vec<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    for name in
        ["SluisAuditFailing", "SluisStoreAway", "SluisBlind", "SluisLeaseLost", "SluisRedisConnections"]
    {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let script = helm::repository("tests/chart/promql.py");
    helm::tool("venv/bin/python", &[&script], &json!(expressions).to_string()).unwrap();

    let app = Demo::start();
    let sluis = Sluis::start(&care_records(app.address));
    let metrics = sluis.metrics().await;
    let series = regex::Regex::new(r"(sluis_[a-z_]+)\{([^}]*)\}").unwrap();
    let matcher = regex::Regex::new(r#"([a-z_]+)="([^"]*)""#).unwrap();
    let mut seen = 0;
    for expression in expressions {
        for found in series.captures_iter(expression) {
            let name = &found[1];
            // without TLS there is no certificate
            let declared =
                metrics.contains(&format!("# TYPE {name} ")) || name == "sluis_certificate_expiry_seconds";
            assert!(declared, "{name} is no series");
            for label in
                matcher.captures_iter(&found[2]).filter(|l| !["namespace", "service"].contains(&&l[1]))
            {
                let there = metrics
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label[0]));
                assert!(there, "{name} has no {}", &label[0]);
                seen += 1;
            }
        }
    }
    assert!(seen >= 3);
}

/// Somebody's own chart with the templates of this one; the README shows exactly this.
#[test]
fn f5_a_chart_of_ones_own_takes_the_sidecar_in() {
    let (_dir, chart) = parent_chart();
    let rendered = HELMS.map(|helm| Objects::read(&helm.template(&chart, &[], &json!({})).unwrap()));
    assert_eq!(rendered[0].sorted(), rendered[1].sorted());
    rendered[1].assert_sound("a chart of one's own");
    rendered[1].assert_accepted("a chart of one's own");
    assert_eq!(rendered[1].all.iter().filter(|o| o["kind"] == "Deployment").count(), 1);
    let shown = std::fs::read_to_string(helm::repository("charts/sluis/README.md")).unwrap();
    let used =
        std::fs::read_to_string(helm::repository("tests/chart/parent/templates/deployment.yaml")).unwrap();
    assert!(shown.contains(&used), "the README shows the template that was tried");
}

/// Every value stands in the README's table with its default, and in the schema.
#[test]
fn every_value_is_documented() {
    let read = |path: &str| std::fs::read_to_string(helm::repository(path)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("charts/sluis/values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("charts/sluis/values.schema.json")).unwrap();
    let readme = read("charts/sluis/README.md");
    let mut paths = Vec::new();
    leaves(&values, &schema, String::new(), &mut paths);
    assert!(paths.len() > 70);
    for path in paths {
        assert!(readme.contains(&format!("| `{path}` |")), "{path} is not in the README");
    }
}

fn leaves(value: &Value, schema: &Value, path: String, found: &mut Vec<String>) {
    let strict = schema.get("additionalProperties") == Some(&Value::Bool(false));
    match value.as_object() {
        Some(map) if strict => {
            for (key, value) in map {
                let schema = &schema["properties"][key];
                assert!(schema.is_object(), "{path}.{key} is not in the schema");
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if path == "resources" || path == "runAs" {
                    continue; // written in one line each
                }
                leaves(value, schema, path, found);
            }
        }
        _ => found.push(path),
    }
}
