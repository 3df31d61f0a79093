//! Balancing, health and retries, with servers that come and go.

use std::collections::BTreeMap;

use pingora::upstreams::peer::Peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{group::is_address, *};
use crate::config::app::{Transport, Upstream};

pub(in crate::proxy) fn transport() -> Transport {
    let seconds = Duration::from_secs;
    Transport {
        connect_timeout: seconds(2),
        read_timeout: seconds(30),
        write_timeout: seconds(30),
        idle_timeout: seconds(60),
        preserve_host: true,
        verify_certificate: true,
        ca_file: None,
        health_path: None,
        health_interval: seconds(1),
        tunnel_idle_timeout: seconds(60),
    }
}

pub(in crate::proxy) fn upstream(address: SocketAddr, weight: usize) -> Upstream {
    Upstream {
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
        addresses: vec![address],
        weight,
    }
}

fn pool(upstreams: &[Upstream], transport: &Transport) -> Arc<Pool> {
    let weights: Vec<usize> = upstreams.iter().map(|u| u.weight).collect();
    Arc::new(Pool {
        app: AppId::new("ecd"),
        groups: upstreams.iter().map(|u| Arc::new(Group::new(u, transport).unwrap())).collect(),
        turns: turns(&weights),
        next: AtomicUsize::new(0),
        health_interval: transport.health_path.as_ref().map(|_| transport.health_interval),
        tended: Mutex::default(),
    })
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], n))
}

fn chosen(pool: &Pool) -> SocketAddr {
    *pool.choose().unwrap().peer.address().as_inet().unwrap()
}

#[test]
fn f1_requests_are_spread_by_weight_and_evenly() {
    assert_eq!(*turns(&[1, 1, 1]), [0, 1, 2]);
    assert_eq!(*turns(&[3, 1]), [0, 0, 1, 0]);
    assert_eq!(*turns(&[0]), [0], "a weight of nothing would be no server");
    let pool = pool(&[upstream(address(1), 3), upstream(address(2), 1)], &transport());
    let mut counts = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(chosen(&pool).port()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(1, 300), (2, 100)]));
}

#[test]
fn f1_a_server_that_refused_is_left_alone_while_others_are_there() {
    let two = [upstream(address(1), 1), upstream(address(2), 1)];
    let pool = pool(&two, &transport());
    assert!(pool.failed(address(1)), "there is another");
    for _ in 0..10 {
        assert_eq!(chosen(&pool), address(2));
    }
    assert!(!pool.failed(address(2)), "none is left");
    assert_eq!(pool.health(), (2, 0));
    assert!(pool.choose().is_some(), "trying is better than refusing");
    pool.succeeded(address(1));
    for _ in 0..10 {
        assert_eq!(chosen(&pool), address(1));
    }
}

#[test]
fn f1_addresses_of_one_name_take_turns_and_are_kept_over_changes() {
    let mut one = upstream(address(1), 1);
    one.addresses = vec![address(1), address(2), address(1)];
    let pool = pool(&[one], &transport());
    assert_eq!(pool.health(), (2, 2));
    assert_ne!(chosen(&pool), chosen(&pool));
    pool.failed(address(1));
    pool.groups[0].set_addresses(&[address(1), address(3)]);
    assert_eq!(pool.health(), (2, 1), "what was known of the first is still known");
    pool.groups[0].set_addresses(&[]);
    assert!(pool.choose().is_none());
}

#[test]
fn time_outs_and_verification_are_set_and_the_host_is_told() {
    let mut upstream = upstream(address(8443), 1);
    upstream.tls = true;
    upstream.host = "ecd.internal".into();
    let (kept, own) = (transport(), Transport { preserve_host: false, ..transport() });
    let (kept, own) = (pool(std::slice::from_ref(&upstream), &kept), pool(&[upstream], &own));
    let chosen = kept.choose().unwrap();
    assert!(chosen.host.is_none());
    assert_eq!(own.choose().unwrap().host.unwrap(), "ecd.internal:8443");
    let options = &chosen.peer.options;
    assert!(options.verify_cert && options.verify_hostname && chosen.peer.sni == "ecd.internal");
    assert_eq!(options.total_connection_timeout, Some(Duration::from_secs(2)));
    assert_eq!(options.read_timeout, Some(Duration::from_secs(30)));
    assert_eq!(options.idle_timeout, Some(Duration::from_secs(60)));
}

/// Answers each connection with this status.
async fn server(status: &'static str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let n = socket.read(&mut head).await.unwrap();
            assert!(head[..n].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, task)
}

#[tokio::test]
async fn f1_a_server_whose_health_path_fails_twice_gets_no_requests() {
    let ((well, task), (ill, _)) = (server("204 No Content").await, server("503 Service Unavailable").await);
    let transport = Transport { health_path: Some("/healthz".into()), ..transport() };
    let pool = pool(&[upstream(well, 1), upstream(ill, 1)], &transport);
    health::check(&pool).await;
    assert_eq!(pool.health(), (2, 2), "once is no proof");
    health::check(&pool).await;
    assert_eq!(pool.health(), (2, 1));
    assert_eq!((chosen(&pool), chosen(&pool)), (well, well));
    task.abort();
    let _ = task.await;
    health::check(&pool).await;
    health::check(&pool).await;
    assert_eq!(pool.health(), (2, 0));
    let again = tokio::net::TcpListener::bind(well).await.unwrap();
    let answer = tokio::spawn(async move {
        let (mut socket, _) = again.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        socket
    });
    health::check(&pool).await;
    answer.await.unwrap();
    assert_eq!(chosen(&pool), well, "well again");
}

#[tokio::test]
async fn names_are_resolved_again() {
    let mut named = upstream(address(1), 1);
    named.host = "localhost".into();
    named.addresses = Vec::new();
    let pool = pool(&[named], &transport());
    assert!(pool.choose().is_none());
    pool.groups[0].resolve(&pool.app).await;
    assert!(chosen(&pool).ip().is_loopback());
    assert!(!is_address("localhost") && is_address("[::1]") && is_address("10.0.0.1"));
}

#[tokio::test]
async fn an_upstream_certificate_is_verified_unless_said_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    crate::tls::tests::write_pair(directory.path(), 90);
    let clock = crate::base::clock::ManualClock::at(crate::tls::tests::NOW);
    let pem = |name: &str| directory.path().join(name);
    let certificates = crate::tls::Certificates::load(&pem("cert.pem"), &pem("key.pem"), clock).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = upstream(listener.local_addr().unwrap(), 1);
    (upstream.tls, upstream.host) = (true, "localhost".into());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(socket).await;
        }
    });
    let dial = async |upstream: &Upstream, transport: &Transport| {
        pool(std::slice::from_ref(upstream), transport).choose().unwrap().dial().await
    };
    assert!(dial(&upstream, &transport()).await.is_err(), "nobody vouches for it");
    let with_root = Transport { ca_file: Some(pem("cert.pem")), ..transport() };
    assert!(dial(&upstream, &with_root).await.is_ok());
    let mut misnamed = upstream.clone();
    misnamed.host = "other.internal".into();
    assert!(dial(&misnamed, &with_root).await.is_err(), "not its name");
    let unverified = Transport { verify_certificate: false, ..transport() };
    assert!(dial(&misnamed, &unverified).await.is_ok());

    std::fs::write(pem("cert.pem"), "rubbish").unwrap();
    let error = Group::new(&upstream, &with_root).err().unwrap().to_string();
    assert!(error.contains("cert.pem"), "{error}");
}
