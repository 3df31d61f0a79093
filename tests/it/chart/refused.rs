//! What must not be installed is refused, in words, by both versions of Helm.

use serde_json::{Value, json};

use super::{
    GATEWAY, SIDECAR,
    helm::{Chart, HELMS, parent_chart},
};

/// Fails unless both refuse it, and say this.
fn refused(chart: &Chart, file: &str, set: &Value, words: &str) {
    for helm in HELMS {
        let files = if file.is_empty() { vec![] } else { vec![file] };
        match helm.template(chart, &files, set) {
            Ok(_) => panic!("{helm:?} renders {set}, but should say {words:?}"),
            Err(said) => assert!(said.contains(words), "{set}: {words:?} is not in {said}"),
        }
    }
}

/// Combinations that would lose data, stand open or never start.
#[test]
fn f5_what_cannot_work_is_refused_with_what_to_do() {
    let app = |upstream: &str| json!({ "config": { "apps": [{ "id": "a", "hosts": ["*"], "upstreams": [upstream], "login": {} }] } });
    let redis = |config: Value| json!({ "store": { "kind": "redis", "redis": { "config": config } } });
    let cases = [
        ("", json!({}), "image.repository: name the image"),
        (GATEWAY, json!({ "keys": { "existingSecret": "" } }), "sluis keys generate"),
        (GATEWAY, json!({ "config": { "apps": [] } }), "config.apps: name at least one app"),
        (GATEWAY, json!({ "replicas": 2 }), "replicas: 2 Pods cannot share one SQLite file"),
        (SIDECAR, json!({ "replicas": 2 }), "Use store.kind: redis"),
        (
            GATEWAY,
            json!({ "store": { "sqlite": { "persistence": { "enabled": false } } } }),
            "SQLite on an emptyDir would forget every enrolment",
        ),
        (GATEWAY, redis(json!({})), "store.redis.config: say where Redis is"),
        (GATEWAY, redis(json!({ "url": "redis://sluis:secret@redis:6379" })), "a password stands in a URL"),
        (
            GATEWAY,
            redis(json!({ "cluster": { "nodes": ["redis://:secret@redis:6379"] } })),
            "a password stands in a URL",
        ),
        (
            GATEWAY,
            redis(
                json!({ "url": "redis://redis:6379", "password": { "file": "/etc/sluis/redis/password" } }),
            ),
            "store.redis.existingSecret: name the Secret",
        ),
        (
            GATEWAY,
            json!({ "mail": { "config": { "password": { "file": "/etc/sluis/mail/password" } } } }),
            "mail.existingSecret: name the Secret",
        ),
        (
            GATEWAY,
            json!({ "listen": { "http": { "enabled": false } } }),
            "listen: enable http, https or both",
        ),
        (GATEWAY, json!({ "listen": { "https": { "enabled": true } } }), "Secret of type kubernetes.io/tls"),
        (GATEWAY, json!({ "listen": { "admin": { "enabled": true } } }), "listen.admin.existingSecret"),
        (
            GATEWAY,
            json!({ "listen": { "admin": { "enabled": true, "existingSecret": "t", "port": 9180 } } }),
            "9180 is the port of",
        ),
        (
            GATEWAY,
            json!({ "ingress": { "enabled": true }, "listen": {
                "http": { "enabled": false }, "https": { "enabled": true, "existingSecret": "t" } } }),
            "listen.http.enabled: an ingress or route speaks plain HTTP",
        ),
        (
            GATEWAY,
            json!({ "ingress": { "enabled": true }, "config": { "apps": [
                { "id": "a", "hosts": ["*"], "upstreams": ["http://a:1"], "login": {} }] } }),
            "ingress.hosts: no app names a host",
        ),
        (GATEWAY, json!({ "httpRoute": { "enabled": true } }), "httpRoute.parentRefs: name the Gateway"),
        (GATEWAY, json!({ "serviceMonitor": { "enabled": true } }), "networkPolicy.metricsFrom"),
        (GATEWAY, json!({ "prometheusRule": { "enabled": true } }), "serviceMonitor.enabled"),
        (GATEWAY, json!({ "listen": { "operations": { "port": 8080 } } }), "8080 is the port of"),
        (
            SIDECAR,
            json!({ "sidecar": { "app": { "port": 8080 } } }),
            "containers of one Pod share their ports",
        ),
        (
            SIDECAR,
            json!({ "networkPolicy": { "protect": [{ "name": "a", "podLabels": { "a": "b" } }] } }),
            "is for mode gateway",
        ),
        (
            SIDECAR,
            json!({ "sidecar": { "app": { "image": "" } } }),
            "sidecar.app.image: name the image of the app",
        ),
        (SIDECAR, json!({ "sidecar": { "deployment": false } }), "sidecar.podLabels: give the labels"),
        (SIDECAR, app("http://ecd.care.svc:8000"), "would lead past Sluis"),
        (SIDECAR, app("http://127.0.0.1.evil.example:8000"), "would lead past Sluis"),
        (
            GATEWAY,
            json!({ "config": { "apps": [{ "id": "a", "hosts": ["*"], "login": {} }] } }),
            "say where the app runs",
        ),
    ];
    for (file, set, words) in cases {
        refused(&Chart::ours(), file, &set, words);
    }
}

/// A template used in the wrong mode says so, too.
#[test]
fn f5_the_templates_for_other_charts_check_their_values() {
    let (_dir, chart) = parent_chart();
    let app = json!({ "id": "a", "hosts": ["a.example.org"], "upstreams": ["http://a:1"], "login": {} });
    let gateway = json!({ "sluis": { "mode": "gateway", "config": { "apps": [app] } } });
    refused(&chart, "", &gateway, "sluis.sidecar.container: set mode: sidecar");
    refused(&chart, "", &json!({ "sluis": { "replicas": 2 } }), "cannot share one SQLite file");
    refused(&chart, "", &json!({ "sluis": { "nope": 1 } }), "nope");
}

/// Values of a wrong name, type or range: each is refused, and named.
#[test]
fn f5_the_schema_refuses_wrong_values() {
    let cases = [
        (json!({ "replica": 2 }), "replica"),
        (json!({ "mode": "proxy" }), "mode"),
        (json!({ "replicas": 0 }), "replicas"),
        (json!({ "replicas": "two" }), "replicas"),
        (json!({ "image": { "name": "x" } }), "name"),
        (json!({ "image": { "repository": "Upper Case" } }), "repository"),
        (json!({ "image": { "digest": "sha256:short" } }), "digest"),
        (json!({ "image": { "pullPolicy": "Sometimes" } }), "pullPolicy"),
        (json!({ "keys": { "value": "bm8=" } }), "value"),
        (json!({ "keys": { "names": [] } }), "names"),
        (json!({ "keys": { "names": ["a/b"] } }), "names"),
        (json!({ "store": { "kind": "memory" } }), "kind"),
        (json!({ "store": { "memory": {} } }), "memory"),
        (json!({ "store": { "redis": { "password": "p" } } }), "password"),
        (json!({ "store": { "redis": { "config": { "password": "p" } } } }), "password"),
        (json!({ "mail": { "config": { "password": "p" } } }), "password"),
        (json!({ "mail": { "config": { "password": { "env": "P" } } } }), "env"),
        (json!({ "mail": { "config": { "smtp": "smtp://sluis:secret@mail" } } }), "smtp"),
        (json!({ "store": { "redis": { "config": { "password": { "env": "P" } } } } }), "env"),
        (json!({ "store": { "redis": { "config": { "url": "redis:6379" } } } }), "url"),
        (json!({ "store": { "sqlite": { "persistence": { "size": "1" } } } }), "size"),
        (
            json!({ "store": { "sqlite": { "persistence": { "accessMode": "ReadWriteMany" } } } }),
            "accessMode",
        ),
        (json!({ "store": { "sqlite": { "emptyDir": {} } } }), "emptyDir"),
        (json!({ "listen": { "http": { "port": 80 } } }), "port"),
        (json!({ "listen": { "http": { "proxyProtocol": false } } }), "proxyProtocol"),
        (json!({ "listen": { "host": "localhost" } }), "host"),
        (json!({ "config": { "insecure_cookies": true } }), "insecure_cookies"),
        (json!({ "config": { "keys": [{ "env": "X" }] } }), "keys"),
        (json!({ "config": { "store": "memory" } }), "store"),
        (json!({ "config": { "apps": [{ "id": "a" }] } }), "hosts"),
        (json!({ "config": { "apps": [{ "id": "A b", "hosts": ["*"], "login": {} }] } }), "id"),
        (json!({ "config": { "log": { "format": "xml" } } }), "format"),
        (json!({ "shutdown": { "delaySeconds": 301 } }), "delaySeconds"),
        (json!({ "shutdown": { "drainSeconds": "30s" } }), "drainSeconds"),
        (json!({ "service": { "type": "ExternalName" } }), "type"),
        (json!({ "service": { "port": 80 } }), "port"),
        (json!({ "ingress": { "hosts": ["Bad_Host"] } }), "hosts"),
        (json!({ "httpRoute": { "parentRefs": [{ "namespace": "x" }] } }), "parentRefs"),
        (json!({ "networkPolicy": { "protect": [{ "name": "ecd", "podLabels": {} }] } }), "podLabels"),
        (json!({ "networkPolicy": { "from": [{}] } }), "from"),
        (json!({ "networkPolicy": { "from": [{ "cidr": "10.0.0.0/8" }] } }), "cidr"),
        (json!({ "podDisruptionBudget": { "maxUnavailable": 0 } }), "maxUnavailable"),
        (json!({ "podDisruptionBudget": { "minAvailable": 1 } }), "minAvailable"),
        (json!({ "topologySpread": { "whenUnsatisfiable": "Never" } }), "whenUnsatisfiable"),
        (json!({ "runAs": { "user": 0 } }), "user"),
        (json!({ "serviceMonitor": { "interval": "soon" } }), "interval"),
        (json!({ "commonLabels": { "a": "not a label!" } }), "commonLabels"),
        (json!({ "sidecar": { "app": { "readinessProbe": { "httpGet": { "port": 8000 } } } } }), "httpGet"),
        (json!({ "sidecar": { "app": { "name": "sluis" } } }), "name"),
        (json!({ "sidecar": { "app": { "preStopSeconds": 0 } } }), "preStopSeconds"),
        (json!({ "sidecar": { "volumes": [{ "name": "sluis-keys", "emptyDir": {} }] } }), "name"),
    ];
    for (set, words) in cases {
        refused(&Chart::ours(), GATEWAY, &set, words);
    }
}
