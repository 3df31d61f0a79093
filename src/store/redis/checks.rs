//! What a server must be before it is trusted with anything, and what is said about it at the start.

use std::collections::HashSet;

use redis::Value;

use super::{OpenError, dial::Info, link::Link};
use crate::config::shared::RedisConfig;

/// The oldest version that has what the scripts use.
const OLDEST: (u32, u32) = (6, 2);

/// Looks at the master of every shard.
pub(super) async fn look(link: &Link, config: &RedisConfig) -> Result<(), OpenError> {
    let mut seen = HashSet::new();
    for shard in 0..config.shards {
        let info = link.info(shard).await.map_err(|error| OpenError::Server(error.0))?;
        if seen.insert(info.run().to_owned()) {
            check(&info)?;
            say_what_survives(link, config, shard, &info).await;
        }
    }
    Ok(())
}

fn check(info: &Info) -> Result<(), OpenError> {
    if let Some(version) = info.field("redis_version") {
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if number < OLDEST {
            return Err(OpenError::Old {
                found: version.to_owned(),
                oldest: format!("{}.{}", OLDEST.0, OLDEST.1),
            });
        }
    }
    match info.field("maxmemory_policy") {
        Some("noeviction") => Ok(()),
        Some(policy) => Err(OpenError::Evicts { policy: policy.to_owned() }),
        None => {
            tracing::warn!(
                "INFO does not tell Redis' maxmemory-policy: make sure yourself that it is noeviction; else used codes, \
                 lock-outs and revocations can be forgotten"
            );
            Ok(())
        }
    }
}

/// Once at the start: whether what is acknowledged is there after a crash (I10).
async fn say_what_survives(link: &Link, config: &RedisConfig, shard: usize, info: &Info) {
    let replicas: usize =
        info.field("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default();
    let synced = if info.field("aof_enabled") == Some("1") {
        let asked = link.ask(shard, &["CONFIG", "GET", "appendfsync"]).await;
        let answer: Option<Vec<String>> =
            asked.ok().and_then(|value: Value| redis::from_redis_value(value).ok());
        answer.and_then(|pair| pair.into_iter().nth(1)).unwrap_or_else(|| "unknown".to_owned())
    } else {
        "off".to_owned()
    };
    let version = info.field("redis_version").unwrap_or("unknown").to_owned();
    let durability = config.durability;
    if replicas < durability {
        tracing::error!(
            shard,
            replicas,
            durability,
            "this Redis has fewer replicas than store.redis.durability asks for: nothing can be written until they are there"
        );
    }
    match synced.as_str() {
        "always" => tracing::info!(
            shard, %version, replicas, durability, appendfsync = %synced,
            "Redis: what is acknowledged survives a crash of the server"
        ),
        _ if durability > 0 => tracing::info!(
            shard, %version, replicas, durability, appendfsync = %synced,
            "Redis: what is acknowledged is on so many replicas and survives a crash of the master"
        ),
        "everysec" => tracing::warn!(
            shard, %version, replicas, durability, appendfsync = %synced,
            "Redis: a crash of the server can lose the last second of what was acknowledged: set appendfsync always, or \
             store.redis.durability with replicas"
        ),
        "unknown" => tracing::warn!(
            shard, %version, replicas, durability,
            "Redis keeps an append-only file; this user may not ask how often it is synced: a crash can lose what was \
             acknowledged unless it is `appendfsync always`"
        ),
        _ => tracing::warn!(
            shard, %version, replicas, durability, appendfsync = %synced,
            "Redis: a crash of the server LOSES what was acknowledged (enrolments, used codes, blocks): set appendonly yes \
             with appendfsync always, or store.redis.durability with replicas"
        ),
    }
}
