//! What each step of a verified request's decision costs by itself. Short: `make bench` runs it.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be set up may stop")]

mod world;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use sluis::{
    base::clock::UnixMillis,
    gate::Outcome,
    model::{RequestId, Tolerance, path},
    policy::{self, Facts},
    proxy::headers::Managed,
    session::{
        cookie::Kind,
        standing::Standings,
        token::{self, Session},
        upstream_cookies::{Down, Scope},
    },
};
use world::{CLIENT, World};

fn decision(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = World::new(&runtime);
    let now = world.now();

    c.bench_function("token_verify_cold", |b| {
        b.iter(|| token::verify::<Session>(&world.keyring, black_box(&world.session_cookie)).unwrap());
    });
    let standings = Standings::new(Arc::clone(&world.keyring), Arc::clone(&world.live));
    c.bench_function("session_cached", |b| {
        b.iter(|| standings.session(&world.app, black_box(&world.cookies()), now).unwrap());
    });
    let id = RequestId::new("bench").unwrap();
    let view = world.page(&id);
    c.bench_function("gate_assess_verified", |b| {
        b.iter(|| match world.gate.assess(&world.app, black_box(&view)) {
            Outcome::Forward(permit) => permit,
            _ => std::process::abort(),
        });
    });
    let (terms, now) = (&world.session.terms, UnixMillis(1));
    let facts = Facts { user: &world.session.user.name, client: CLIENT, terms, now };
    c.bench_function("policy_decide", |b| {
        b.iter(|| matches!(policy::decide(&world.app, black_box(&facts)), policy::Decision::Require(_)));
    });
    headers(c, &world, &runtime);
}

fn headers(c: &mut Criterion, world: &World, runtime: &tokio::runtime::Runtime) {
    let scope = Scope::Session(world.session.id);
    let set = HeaderValue::from_static("APPSESSION=0123456789abcdef0123456789abcdef; Path=/; HttpOnly");
    let down = || runtime.block_on(world.sealer.down(&world.app, black_box(&set), scope)).unwrap();
    let Down::Sealed(sealed) = down() else { return };
    c.bench_function("cookie_down_seal", |b| b.iter(down));

    let sealed = sealed.to_str().unwrap().split(';').next().unwrap();
    let (session, device) = (world.names.name(Kind::Session), world.names.name(Kind::Device));
    let line = format!("{session}={}; {device}={}; {sealed}", world.session_cookie, world.device_cookie);
    let mut out = Vec::with_capacity(1024);
    c.bench_function("cookie_find_ours", |b| {
        b.iter(|| world.names.find(std::iter::once(black_box(line.as_bytes()))).is_ok());
    });
    c.bench_function("cookie_up_open", |b| {
        b.iter(|| {
            let lines = std::iter::once(black_box(line.as_bytes()));
            world.sealer.up(&world.app, lines, &[scope], &mut out);
            out.len()
        });
    });
    let managed = Managed::new(&world.app.headers);
    c.bench_function("header_fold_16_names", |b| {
        b.iter(|| NAMES.iter().filter(|name| managed.covers(black_box(name.as_bytes()))).count());
    });
    c.bench_function("path_canonical", |b| {
        let path = b"/clients/4711/dossier/documents/2026-11-22_report.pdf";
        b.iter(|| path::canonical(black_box(path), Tolerance::NONE).is_ok());
    });
}

/// What a browser sends.
const NAMES: [&str; 16] = [
    "host",
    "user-agent",
    "accept",
    "accept-language",
    "accept-encoding",
    "referer",
    "connection",
    "cookie",
    "upgrade-insecure-requests",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "if-modified-since",
    "cache-control",
    "priority",
];

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = decision
}
criterion_main!(benches);
