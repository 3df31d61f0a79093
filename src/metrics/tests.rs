//! That all series are there from the start, and count.

use std::time::Duration;

use super::*;

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Makes every family, so a bad or double name fails here and not at a customer's. [F6]
#[test]
fn f6_every_label_set_starts_at_zero() {
    let text = Metrics::new(&["ecd".to_owned()]).render();
    for series in [
        r#"sluis_requests_total{app="ecd",outcome="forwarded"}"#,
        r#"sluis_requests_total{app="_none",outcome="refused"}"#,
        r#"sluis_decisions_total{app="ecd",reason="proof_too_old"}"#,
        r#"sluis_challenges_total{method="totp",outcome="already_used"}"#,
        r#"sluis_store_operations_total{operation="consume",outcome="failed"}"#,
        r#"sluis_store_seconds_count{operation="own_device"}"#,
        r#"sluis_upstream_seconds_count{app="ecd"}"#,
        r#"sluis_connections{listener="https"}"#,
        r#"sluis_redis_connects_total{outcome="failed"}"#,
        r#"sluis_redis_redirects_total{kind="midway"}"#,
        "sluis_redis_connections",
        "sluis_redis_commands_in_flight",
        "sluis_redis_waiting",
        "sluis_decision_seconds_count",
        "sluis_draining",
        r#"sluis_mail_total{outcome="sent"}"#,
        "sluis_mail_failing",
        "sluis_clock_jumps_total",
        "sluis_code_drift_seconds",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    let build = format!(r#"sluis_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, &build), Some(1.0));
    assert!(!text.contains("sluis_certificate_expiry_seconds{"), "an expiry of 0 would raise an alarm");
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = Metrics::new(&[]);
    let app = metrics.app(&AppId::new("later"));
    app.requests.count(Answered::Challenge);
    app.requests.count(Answered::Challenge);
    metrics.app(&AppId::new("later")).tunnels.inc();
    metrics.challenges.count(Method::Totp, Challenge::Locked);
    metrics.store.observe(StoreOperation::Ping, Duration::from_millis(3), false);
    metrics.certificate_expires(Listener::Https, 1_900_000_000);
    let text = metrics.render();
    assert_eq!(value(&text, r#"sluis_requests_total{app="later",outcome="challenge"}"#), Some(2.0));
    assert_eq!(value(&text, r#"sluis_requests_total{app="later",outcome="own"}"#), Some(0.0));
    assert_eq!(value(&text, r#"sluis_tunnels{app="later"}"#), Some(1.0));
    assert_eq!(value(&text, r#"sluis_challenges_total{method="totp",outcome="locked"}"#), Some(1.0));
    assert_eq!(value(&text, r#"sluis_store_operations_total{operation="ping",outcome="failed"}"#), Some(1.0));
    assert_eq!(value(&text, r#"sluis_store_seconds_count{operation="ping"}"#), Some(1.0));
    assert_eq!(value(&text, r#"sluis_certificate_expiry_seconds{listener="https"}"#), Some(1_900_000_000.0));
}
