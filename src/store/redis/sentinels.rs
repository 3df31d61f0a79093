//! What sentinels say: who the master is, and the word that it is another one now.
//!
//! All are asked at once, and the one that knows of the latest failover is believed: each failover raises the configuration
//! epoch (Redis, "High availability with Sentinel", *Configuration propagation*). So one that stands still delays
//! nobody, and one that slept through a failover is not believed as soon as another one answers.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{Pipeline, Value};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

use super::dial;
use crate::{
    base::clock::Stopwatch,
    config::shared::{RedisAddress, RedisConfig},
    store::{StoreError, StoreResult},
};

/// Once most sentinels have answered, the others have so long to know better.
const REST: Duration = Duration::from_millis(100);
/// What they say when a master has been replaced.
const SWITCHED: &str = "+switch-master";

/// What one sentinel believes.
#[derive(Debug, PartialEq, Eq)]
struct Belief {
    /// Of the latest failover that it knows of.
    epoch: u64,
    master: RedisAddress,
}

/// The master of the service.
pub(super) async fn master(
    config: &RedisConfig,
    nodes: &[RedisAddress],
    service: &str,
) -> StoreResult<RedisAddress> {
    let mut asking = JoinSet::new();
    for node in nodes {
        let (config, node, service) = (config.clone(), node.clone(), service.to_owned());
        asking.spawn(async move { ask(&config, &node, &service).await });
    }
    let most = nodes.len() / 2 + 1;
    let mut newest = None;
    let mut last = StoreError("no sentinel is configured".to_owned());
    let (mut heard, mut enough) = (0, None);
    loop {
        let answer = match enough {
            None => asking.join_next().await,
            Some(since) => {
                let rest = REST.saturating_sub(Stopwatch::elapsed(since));
                timeout(rest, asking.join_next()).await.unwrap_or(None)
            }
        };
        match answer {
            None => break,
            Some(Ok(Ok(belief))) => {
                newest = Some(newer(newest, belief));
                heard += 1;
                if heard == most {
                    enough = Some(Stopwatch::start());
                }
            }
            Some(Ok(Err(error))) => last = error,
            Some(Err(_)) => last = StoreError("the store is being closed".to_owned()),
        }
    }
    newest.map(|belief| belief.master).ok_or_else(|| {
        StoreError(format!("no sentinel names the master of {service:?}; the last one said: {}", last.0))
    })
}

/// Of two beliefs the one to go by; the earlier one if they know as much.
fn newer(known: Option<Belief>, heard: Belief) -> Belief {
    match known {
        Some(known) if known.epoch >= heard.epoch => known,
        _ => heard,
    }
}

async fn ask(config: &RedisConfig, node: &RedisAddress, service: &str) -> StoreResult<Belief> {
    let mut connection = dial::connect(config, node, Some(config.timeout), false).await?;
    // The epoch first: if it changes in between, it is too low for the address and not too high.
    let mut both = Pipeline::new();
    both.cmd("SENTINEL").arg("MASTER").arg(service);
    both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let failed = |error| dial::failed(node, &error);
    let mut answers = connection.send_packed_commands(&both, 0, 2).await.map_err(failed)?.into_iter();
    let about = answers.next().unwrap_or(Value::Nil).extract_error().ok();
    let named = answers.next().unwrap_or(Value::Nil).extract_error().map_err(failed)?;
    let named: Option<(String, u16)> =
        redis::from_redis_value(named).map_err(|error| StoreError(format!("{node}: {error}")))?;
    let (host, port) = named.ok_or_else(|| StoreError(format!("{node} knows no master {service:?}")))?;
    Ok(Belief { epoch: about.and_then(epoch).unwrap_or(0), master: RedisAddress::Tcp(host, port) })
}

fn epoch(about: Value) -> Option<u64> {
    let fields: std::collections::HashMap<String, String> = redis::from_redis_value(about).ok()?;
    fields.get("config-epoch")?.parse().ok()
}

/// Wakes `changed` whenever a sentinel says that the master of the service was replaced; until it cannot be heard any more.
pub(super) async fn listen(
    config: &RedisConfig,
    node: &RedisAddress,
    service: &str,
    changed: &Notify,
) -> StoreResult<()> {
    let mut messages = dial::listen(config, node, SWITCHED).await?.into_on_message();
    while let Some(message) = messages.next().await {
        // The service, the old master's host and port, the new one's.
        let said: String = message.get_payload().unwrap_or_default();
        if said.split(' ').next() == Some(service) {
            changed.notify_one();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belief(epoch: u64, port: u16) -> Belief {
        Belief { epoch, master: RedisAddress::Tcp("r".to_owned(), port) }
    }

    #[test]
    fn who_slept_through_a_failover_is_not_believed_in_whatever_order_they_answer() {
        for order in [[(3, 1), (4, 2), (3, 1)], [(4, 2), (3, 1), (3, 1)], [(3, 1), (3, 1), (4, 2)]] {
            let heard = order.into_iter().map(|(epoch, port)| belief(epoch, port));
            assert_eq!(heard.fold(None, |known, next| Some(newer(known, next))), Some(belief(4, 2)));
        }
    }
}
