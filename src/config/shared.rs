//! `store.redis`, resolved: where the servers are and how they are spoken to.

use std::{fmt, path::PathBuf, time::Duration};

use crate::base::secret::SecretString;

/// Several replicas share this backend.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where the servers are.
    pub servers: RedisServers,
    /// The ACL user; the `default` one when `None`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// TLS to every server (sentinels too).
    pub tls: Option<RedisTls>,
    /// Every key begins with this and `:`; two installations on one Redis differ in it.
    pub prefix: String,
    /// Into how many parts the data set is cut; fixed for its life.
    pub shards: usize,
    /// So many replicas of the Redis master must have what is acknowledged; 0 = the master alone.
    pub durability: usize,
    /// An answer that takes longer is none. Also the longest time for a connection.
    pub timeout: Duration,
    /// How many announcements each shard keeps for replicas that fall behind.
    pub feed_length: usize,
    /// Whether a data set is made where there is none.
    pub initialise: bool,
}

impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |nodes: &[RedisAddress]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match &self.servers {
            RedisServers::Single { address, database } => {
                write!(f, "Redis, {address}, data base {database}")?
            }
            RedisServers::Sentinel { nodes, service, .. } => {
                write!(f, "Redis, master {service} of the sentinels {}", list(nodes))?;
            }
            RedisServers::Cluster { nodes } => write!(f, "Redis Cluster, {}", list(nodes))?,
        }
        write!(f, ", prefix {}, {} shard(s), durability {}", self.prefix, self.shards, self.durability)
    }
}

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Single {
        /// Where.
        address: RedisAddress,
        /// The number of its data base.
        database: u8,
    },
    /// One master, found through sentinels.
    Sentinel {
        /// The sentinels.
        nodes: Vec<RedisAddress>,
        /// What they call the master.
        service: String,
        /// The number of its data base.
        database: u8,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes; the others are learned from them.
        nodes: Vec<RedisAddress>,
    },
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedisAddress {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A password, or where it is.
#[derive(Clone)]
pub enum Password {
    /// A file, read again for each connection: so a new password needs no restart.
    File(PathBuf),
    /// The password itself, from the environment.
    Fixed(SecretString),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Fixed(_) => f.write_str("Fixed(…)"),
        }
    }
}

/// How TLS is spoken. Files are read again for each connection.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// Roots for the server's certificate, PEM; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate chain and key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}
