//! One connection: made, authenticated, and told apart from a connection to a server that is not the master.
//!
//! Password and certificates are read for each connection anew, so that changed ones need no restart.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, TlsCertificates, Value,
    aio::{MultiplexedConnection, PubSub},
};

use crate::{
    config::shared::{Password, RedisAddress, RedisConfig, RedisServers},
    metrics::{Counted, RedisMetrics},
    store::{StoreError, StoreResult},
};

/// A connection and what is behind it.
#[derive(Clone)]
pub(super) struct Wire {
    pub connection: MultiplexedConnection,
    /// What the server said about itself when it was connected to.
    pub info: Arc<Info>,
    /// Counts it for as long as somebody has it.
    _open: Arc<Counted>,
}

/// The answer to `INFO`.
pub(super) struct Info(String);

impl Info {
    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Names this run of the server: another one after each restart.
    pub fn run(&self) -> &str {
        self.field("run_id").unwrap_or_default()
    }
}

/// Connects to a server that must be a master. `patience` is for each answer; `None` = as long as it takes.
pub(super) async fn master(
    config: &RedisConfig,
    address: &RedisAddress,
    patience: Option<Duration>,
    metrics: &RedisMetrics,
) -> StoreResult<Wire> {
    let mut connection = connect(config, address, patience, true).await?;
    let open = Arc::new(metrics.open());
    let mut ask = Pipeline::new();
    for section in ["server", "replication", "memory", "persistence"] {
        ask.cmd("INFO").arg(section);
    }
    let asked = tokio::time::timeout(config.timeout, connection.send_packed_commands(&ask, 0, 4));
    let answers = asked
        .await
        .map_err(|_| StoreError(format!("{address} does not answer")))?
        .and_then(|answers| answers.into_iter().map(Value::extract_error).collect::<Result<Vec<_>, _>>())
        .map_err(|error| failed(address, &error))?;
    let text: Vec<String> =
        answers.into_iter().filter_map(|answer| redis::from_redis_value(answer).ok()).collect();
    let info = Info(text.concat());
    if info.field("role").is_some_and(|role| role != "master") {
        return Err(StoreError(format!("{address} is a replica, not the master")));
    }
    if info.run().is_empty() {
        return Err(StoreError(format!("{address}: INFO does not name the server's run")));
    }
    Ok(Wire { connection, info: Arc::new(info), _open: open })
}

/// Listens to a channel of a sentinel.
pub(super) async fn listen(config: &RedisConfig, node: &RedisAddress, channel: &str) -> StoreResult<PubSub> {
    let client = client(config, node, RedisConnectionInfo::default().set_skip_set_lib_name())
        .map_err(|error| failed(node, &error))?;
    let listening = async {
        let mut listening = client.get_async_pubsub().await?;
        listening.subscribe(channel).await?;
        Ok(listening)
    };
    match tokio::time::timeout(config.timeout, listening).await {
        Ok(listening) => listening.map_err(|error| failed(node, &error)),
        Err(_) => Err(StoreError(format!("{node} does not answer"))),
    }
}

/// Connects to any server; a sentinel has no data base and does not know our user.
pub(super) async fn connect(
    config: &RedisConfig,
    address: &RedisAddress,
    patience: Option<Duration>,
    master: bool,
) -> StoreResult<MultiplexedConnection> {
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if master {
        if let RedisServers::Single { database, .. } | RedisServers::Sentinel { database, .. } =
            config.servers
        {
            login = login.set_db(database.into());
        }
        if let Some(password) = &config.password {
            login = login.set_password(read_password(password)?);
            if let Some(username) = &config.username {
                login = login.set_username(username);
            }
        }
    }
    let client = client(config, address, login).map_err(|error| failed(address, &error))?;
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout))
        .set_response_timeout(patience);
    let connecting = client.get_multiplexed_async_connection_with_config(&settings);
    match tokio::time::timeout(config.timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(address, &error)),
        Err(_) => Err(StoreError(format!("{address} does not answer"))),
    }
}

fn client(
    config: &RedisConfig,
    address: &RedisAddress,
    login: RedisConnectionInfo,
) -> redis::RedisResult<Client> {
    let address = match (address, &config.tls) {
        (RedisAddress::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
        (RedisAddress::Tcp(host, port), None) => ConnectionAddr::Tcp(host.clone(), *port),
        (RedisAddress::Tcp(host, port), Some(_)) => {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        }
    };
    let over_tls = matches!(address, ConnectionAddr::TcpTls { .. });
    let info = address.into_connection_info()?.set_redis_settings(login);
    match &config.tls {
        Some(tls) if over_tls => {
            let root_cert = tls.ca_file.as_ref().map(std::fs::read).transpose()?;
            let client_tls = match &tls.client {
                Some((chain, key)) => Some(ClientTlsConfig {
                    client_cert: std::fs::read(chain)?,
                    client_key: std::fs::read(key)?,
                }),
                None => None,
            };
            Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })
        }
        _ => Client::open(info),
    }
}

fn read_password(password: &Password) -> StoreResult<String> {
    match password {
        Password::Fixed(password) => Ok(password.expose().to_owned()),
        Password::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| StoreError(format!("the password file {}: {error}", path.display()))),
    }
}

/// What went wrong, for the log: never more than the server said.
pub(super) fn failed(address: &RedisAddress, error: &redis::RedisError) -> StoreError {
    StoreError(format!("{address}: {error}"))
}
