//! A program that uses the administrators' API.

use std::net::SocketAddr;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use super::Sluis;

/// A plain listener, and one for administrators.
pub const ADMIN: &str = "http: { address: \"127.0.0.1:0\" }\n  admin: { address: \"127.0.0.1:0\" }";

/// The API of a running Sluis, with a token.
pub struct Api {
    address: SocketAddr,
    token: String,
    client: Client,
}

impl Api {
    /// With a new token that has these scopes.
    pub fn of(sluis: &mut Sluis, scopes: &[&str]) -> Self {
        let mut arguments = vec!["token", "create", "test"];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        let made = sluis.cli(&arguments);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::at(sluis, String::from_utf8(made.stdout).unwrap().trim())
    }

    /// With this token.
    pub fn at(sluis: &mut Sluis, token: &str) -> Self {
        let address = sluis.process.await_line("administrators' listener", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let fields = line.get("fields").unwrap_or(&line);
            (fields.get("listener")?.as_str()? == "admin").then_some(())?;
            fields.get("address")?.as_str()?.parse().ok()
        });
        Self { address, token: token.to_owned(), client: Client::builder().no_proxy().build().unwrap() }
    }

    /// The same with another token; an empty one is none.
    pub fn with(&self, token: &str) -> Self {
        Self { address: self.address, token: token.to_owned(), client: self.client.clone() }
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, None, &[]).await
    }

    /// Acts.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// Reads without TLS.
    pub async fn plain(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("http://{}/api/v1{path}", self.address)).send().await
    }

    /// Reads what stands beside the API.
    pub async fn whole(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Sends anything.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("http://{}/api/v1{path}", self.address));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }
}
