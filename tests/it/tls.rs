//! HTTPS: HTTP/1.1 and HTTP/2, `__Host-` cookies, and certificates that are replaced while people work.

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{Method, StatusCode, Version, header::SET_COOKIE, tls::TlsInfo};

use crate::support::{
    Demo, Sluis,
    authority::{Authority, start},
    process::PATIENCE,
    sluis::care_records,
    upstream::Recorder,
};

/// [A1 A2 A7 F1 F3] The whole story over TLS, by HTTP/1.1 and by HTTP/2: every cookie of ours is bound to this host.
#[tokio::test]
async fn the_whole_story_over_tls() {
    let app = Demo::start();
    let (authority, sluis) = start(&care_records(app.address));
    for (user, http1, version) in [("anna", true, Version::HTTP_11), ("bram", false, Version::HTTP_2)] {
        let mut browser = authority.browser(&sluis, http1);
        let first = browser.request(Method::GET, "/").send().await.unwrap();
        assert_eq!(first.version(), version);
        assert_eq!(first.status(), StatusCode::SEE_OTHER);

        let pending = sluis.password(&mut browser, user).await;
        assert_eq!(pending.location(), "/.sluis/challenge", "{pending:?}");
        let page = browser.visit("/.sluis/challenge").await;
        assert!(page.headers["strict-transport-security"].to_str().unwrap().contains("max-age="), "{page:?}");
        let (_, entered) = sluis.enrol(&mut browser, &pending).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{entered:?}");
        assert!(browser.follow(&entered).await.body.contains(user));

        let mut ours = 0;
        for line in pending.headers.get_all(SET_COOKIE).iter().chain(entered.headers.get_all(SET_COOKIE)) {
            let line = line.to_str().unwrap();
            if line.contains("sluis-") {
                ours += 1;
                assert!(line.starts_with("__Host-sluis-"), "{line}");
                for attribute in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
                    assert!(line.contains(attribute), "{line}");
                }
                assert!(!line.to_lowercase().contains("domain"), "{line}");
            }
        }
        assert!(ours >= 4, "device, login, session, trust");
        for name in ["device", "session", "trust"] {
            assert!(browser.jar.contains_key(&format!("__Host-sluis-{name}")), "{:?}", browser.jar);
        }

        browser.visit("/logout").await;
        let again = sluis.password(&mut browser, user).await;
        assert!(!again.location().contains("/.sluis/"), "A7: {again:?}");
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
    }
}

/// [I6 F4] Over HTTP/2, too, no forged identity header arrives, and cookies in several fields are read as one.
#[tokio::test]
async fn i6_forged_headers_never_arrive_over_http2() {
    let app = Demo::start();
    let (authority, sluis) = start(&care_records(app.address));
    let mut browser = authority.browser(&sluis, false);
    let pending = sluis.password(&mut browser, "anna").await;
    sluis.enrol(&mut browser, &pending).await;

    let client = authority.client(false);
    let ask = |names: &[&str], more: &[(&str, &str)]| {
        let mut request = client.get(format!("{}/headers", sluis.origin()));
        for (name, value) in &browser.jar {
            request = request.header("cookie", format!("{name}={value}"));
        }
        for name in names {
            request = request.header(*name, "admin-forged").header(*name, "twice-forged");
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let names = [
        "remote-user",
        "remote_user",
        "remote.user",
        "remote~user",
        "remote!user",
        "remote-groups",
        "remote_email",
        "x-sluis-methods",
        "x_sluis_proved_at",
        "x.sluis.anything",
    ];
    for names in names.iter().map(std::slice::from_ref).chain([&names[..]]) {
        let answer = ask(names, &[]).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2), "{names:?}");
        let text = answer.text().await.unwrap().to_ascii_lowercase();
        assert!(!text.contains("forged"), "{names:?} arrived:\n{text}");
        assert!(text.contains("remote-user: anna") && text.contains("x-sluis-methods: totp"), "{text}");
        assert!(!text.contains("sluis-session"), "{text}");
        assert_eq!(
            text.matches("\ncookie: ").count() + usize::from(text.starts_with("cookie: ")),
            1,
            "{text}"
        );
        assert!(text.contains("zorgsessie="), "the app's own cookie came in a field of its own: {text}");
    }
    // Two sessions in two fields can be read in two ways.
    let twice = ask(&[], &[("cookie", "__Host-sluis-session=x")]).await.unwrap();
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
}

/// [I6] Trailers of a request carry nothing upstream: what would be read as a header there is not sent on.
#[tokio::test]
async fn i6_trailers_never_arrive() {
    let upstream = Recorder::start();
    let (authority, sluis) = start(&care_records(upstream.address));
    let mut trailers = reqwest::header::HeaderMap::new();
    for name in ["remote-user", "remote_user", "x-sluis-methods", "x-other"] {
        trailers.insert(reqwest::header::HeaderName::from_static(name), "forged".parse().unwrap());
    }
    for http1 in [false, true] {
        let frames = [
            Ok::<_, std::io::Error>(Frame::data(Bytes::from("hello"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let body = reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
        let sent = authority
            .client(http1)
            .post(format!("{}/static/x", sluis.origin()))
            .header("trailer", "remote-user, remote_user, x-sluis-methods, x-other")
            .body(body)
            .send()
            .await
            .unwrap();
        let status = sent.status();
        let seen = upstream.seen();
        assert!(!seen.contains("forged"), "http1 {http1}: {seen}");
        assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{status}");
        assert_eq!(status == StatusCode::OK, seen.contains("hello"), "http1 {http1}: {seen}");
    }
    // Byte for byte, as no decent client would.
    let raw = "POST /static/y HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Remote-User\r\n\
               Connection: close\r\n\r\n5\r\nhello\r\n0\r\nRemote-User: forged\r\n\r\n";
    let plain = Sluis::start(&care_records(upstream.address));
    let _ = crate::support::raw::send_until_answered(plain.address, raw.as_bytes());
    assert!(!upstream.seen().contains("forged"), "{}", upstream.seen());
}

async fn served(authority: &Authority, sluis: &Sluis) -> Vec<u8> {
    let answer = authority.client(false).get(format!("{}/login", sluis.origin())).send().await.unwrap();
    answer.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
}

async fn metric(sluis: &Sluis, series: &str) -> f64 {
    let metrics = sluis.metrics().await;
    let line = metrics.lines().find(|l| l.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until a series has this value.
async fn awaited(sluis: &Sluis, series: &str, wanted: f64) {
    let waiting = async {
        while metric(sluis, series).await < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{series} does not become {wanted}"));
}

/// [F1 F6] A new certificate is taken by SIGHUP and by itself, while requests run; a bad one is refused and the old
/// one kept; metrics say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_while_connections_run() {
    let app = Demo::start();
    let config = care_records(app.address).replace("/static/*]", "/static/*, /slow]");
    let (authority, sluis) = start(&config);
    let done = "sluis_reloads_total{outcome=\"done\",what=\"certificate\"}";
    let refused = "sluis_reloads_total{outcome=\"refused\",what=\"certificate\"}";
    let expiry = "sluis_certificate_expiry_seconds{listener=\"https\"}";
    assert_eq!(metric(&sluis, expiry).await, 4_102_358_400.0, "the end of 2099");
    let first = served(&authority, &sluis).await;

    let running = authority.client(false);
    running.get(format!("{}/login", sluis.origin())).send().await.unwrap().text().await.unwrap();
    let slow = running.get(format!("{}/slow?ms=3000", sluis.origin())).send();
    let slow = tokio::spawn(slow);

    // By signal.
    let second = authority.write(sluis.dir.path(), 2098);
    sluis.process.signal("HUP");
    awaited(&sluis, done, 1.0).await;
    assert_eq!(served(&authority, &sluis).await, second);
    assert_ne!(first, second);
    assert_eq!(metric(&sluis, expiry).await, 4_070_822_400.0, "the end of 2098");

    // A bad one.
    std::fs::write(sluis.file("tls.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    sluis.process.signal("HUP");
    awaited(&sluis, refused, 1.0).await;
    assert_eq!(served(&authority, &sluis).await, second, "the old one stays");
    assert_eq!(metric(&sluis, expiry).await, 4_070_822_400.0);
    assert!(sluis.process.said().contains("the new TLS certificate cannot be used"));

    // By itself, once the files have changed.
    let third = authority.write(sluis.dir.path(), 2097);
    awaited(&sluis, done, 2.0).await;
    assert_eq!(served(&authority, &sluis).await, third);

    let slow = slow.await.unwrap().unwrap();
    assert_eq!(slow.text().await.unwrap(), "at last\n", "nothing in flight was cut");
    // And the connection of before goes on.
    let kept = running.get(format!("{}/login", sluis.origin())).send().await.unwrap();
    assert_eq!(kept.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap(), first);
}
