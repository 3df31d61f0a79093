//! Which server is the master of a shard now.
//!
//! One server is itself; sentinels are asked; a Cluster says which node has which slot, and corrects us when that
//! changes (`MOVED`). Nothing here is believed when the server itself says that it is a replica.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Value, cmd};
use tokio::sync::Mutex as AsyncMutex;

use super::{dial, sentinels};
use crate::{
    config::shared::{RedisAddress, RedisConfig, RedisServers},
    store::{StoreError, StoreResult},
};

/// Between two searches that found nothing new.
const PAUSE: Duration = Duration::from_millis(100);

/// The way to each shard.
pub(super) struct Routes {
    /// The slot of each shard.
    slots: Vec<u16>,
    masters: Mutex<Vec<Option<RedisAddress>>>,
    /// When it was last searched, and why that failed.
    searched: AsyncMutex<Option<(Instant, StoreError)>>,
}

impl Routes {
    pub fn new(slots: Vec<u16>) -> Self {
        let masters = Mutex::new(vec![None; slots.len()]);
        Self { slots, masters, searched: AsyncMutex::default() }
    }

    /// Where the shard's master is, searched if need be.
    pub async fn find(&self, config: &RedisConfig, shard: usize) -> StoreResult<RedisAddress> {
        if let RedisServers::Single { address, .. } = &config.servers {
            return Ok(address.clone());
        }
        if let Some(address) = self.known(shard) {
            return Ok(address);
        }
        let mut searched = self.searched.lock().await;
        // Somebody else may have found it meanwhile.
        if let Some(address) = self.known(shard) {
            return Ok(address);
        }
        if let Some((at, error)) = searched.as_ref()
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let found = match &config.servers {
            RedisServers::Sentinel { nodes, service, .. } => self.ask_sentinels(config, nodes, service).await,
            RedisServers::Cluster { nodes } => self.ask_cluster(config, nodes).await,
            RedisServers::Single { .. } => Ok(()),
        };
        let found = found.and_then(|()| {
            self.known(shard)
                .ok_or_else(|| StoreError(format!("no node of the Cluster has shard {shard} now")))
        });
        *searched = found.as_ref().err().map(|error| (Instant::now(), error.clone()));
        found
    }

    /// The server is not the master of the shard, or does not answer: search again.
    pub fn forget(&self, shard: usize, address: &RedisAddress) {
        if let Some(master) = self.masters.lock().get_mut(shard)
            && master.as_ref() == Some(address)
        {
            *master = None;
        }
    }

    /// The Cluster has said who has the shard.
    pub fn learn(&self, shard: usize, address: RedisAddress) {
        if let Some(master) = self.masters.lock().get_mut(shard) {
            *master = Some(address);
        }
    }

    /// Asks the sentinels again; whether the master is another one than before.
    pub async fn master_changed(&self, config: &RedisConfig) -> bool {
        let RedisServers::Sentinel { nodes, service, .. } = &config.servers else { return false };
        let before = self.known(0);
        before.is_some()
            && self.ask_sentinels(config, nodes, service).await.is_ok()
            && self.known(0) != before
    }

    fn known(&self, shard: usize) -> Option<RedisAddress> {
        self.masters.lock().get(shard).cloned().flatten()
    }

    async fn ask_sentinels(
        &self,
        config: &RedisConfig,
        nodes: &[RedisAddress],
        service: &str,
    ) -> StoreResult<()> {
        let master = sentinels::master(config, nodes, service).await?;
        self.masters.lock().fill(Some(master));
        Ok(())
    }

    async fn ask_cluster(&self, config: &RedisConfig, seeds: &[RedisAddress]) -> StoreResult<()> {
        let mut nodes: Vec<RedisAddress> = self.masters.lock().iter().flatten().cloned().collect();
        nodes.dedup();
        nodes.extend(seeds.iter().cloned());
        let mut last = StoreError("no node of the Cluster is configured".to_owned());
        for node in nodes {
            match ask_node(config, &node).await {
                Ok(ranges) => {
                    let mut masters = self.masters.lock();
                    for (master, slot) in masters.iter_mut().zip(&self.slots) {
                        let range = ranges.iter().find(|range| range.first <= *slot && *slot <= range.last);
                        *master = range.map(|range| range.master.clone());
                    }
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(StoreError(format!("no node of the Cluster says who has which slot; the last one: {}", last.0)))
    }
}

struct Range {
    first: u16,
    last: u16,
    master: RedisAddress,
}

async fn ask_node(config: &RedisConfig, node: &RedisAddress) -> StoreResult<Vec<Range>> {
    let mut connection = dial::connect(config, node, Some(config.timeout), true).await?;
    let mut ask = cmd("CLUSTER");
    ask.arg("SLOTS");
    let answer = connection.send_packed_command(&ask).await.and_then(Value::extract_error);
    let answer = answer.map_err(|error| dial::failed(node, &error))?;
    let Value::Array(ranges) = answer else {
        return Err(StoreError(format!("{node} does not say who has which slot")));
    };
    Ok(ranges.into_iter().filter_map(|range| read_range(range, node)).collect())
}

/// First slot, last slot, the master's host, port, …; an empty host is the node that was asked.
fn read_range(range: Value, asked: &RedisAddress) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let mut number = || redis::from_redis_value::<u16>(parts.next()?).ok();
    let (first, last) = (number()?, number()?);
    let Value::Array(master) = parts.next()? else { return None };
    let mut master = master.into_iter();
    let host: Option<String> = redis::from_redis_value(master.next()?).ok()?;
    let port: u16 = redis::from_redis_value(master.next()?).ok()?;
    let host = match (host, asked) {
        (Some(host), _) if !host.is_empty() && host != "?" => host,
        (_, RedisAddress::Tcp(host, _)) => host.clone(),
        (_, RedisAddress::Unix(_)) => return None,
    };
    Some(Range { first, last, master: RedisAddress::Tcp(host, port) })
}
