//! Asks the servers of an app, as an operator would by hand: for `sluis doctor`.

use std::{io, net::SocketAddr};

use http::HeaderValue;

use super::{group::Group, health};
use crate::config::App;

/// What one server answered to one path.
pub struct Answer {
    /// Its host and port, as configured.
    pub server: String,
    /// Its address.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// Whether it is the health path.
    pub health: bool,
    /// The status, or why there is none.
    pub status: io::Result<u16>,
}

/// Asks each server of the app for its health path and its login page. Answers also which names have no address.
///
/// # Errors
/// When a `ca_file` cannot be used.
pub async fn examine(app: &App) -> io::Result<(Vec<Answer>, Vec<String>)> {
    let (mut answers, mut nameless) = (Vec::new(), Vec::new());
    let page = app.login.page.replace("{target}", "%2F");
    for upstream in &app.upstreams {
        let group = Group::new(upstream, &app.transport)?;
        let server = format!("{}:{}", upstream.host, upstream.port);
        let public = app.hosts.iter().find(|host| *host != "*").filter(|_| app.transport.preserve_host);
        let host = public.and_then(|host| HeaderValue::from_str(host).ok());
        let host = host.unwrap_or_else(|| group.template.own_name.clone());
        let backends = group.backends.load_full();
        if backends.is_empty() {
            nameless.push(server.clone());
        }
        for backend in backends.iter() {
            let health_path =
                app.transport.health_path.iter().map(|path| (path, &group.template.own_name, true));
            for (path, host, health) in health_path.chain([(&page, &host, false)]) {
                let asked = health::ask_as(&group, backend, path, host);
                let asked = tokio::time::timeout(health::LONGEST, asked).await;
                answers.push(Answer {
                    server: server.clone(),
                    address: backend.address,
                    path: path.clone(),
                    health,
                    status: asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                });
            }
        }
    }
    Ok((answers, nameless))
}
