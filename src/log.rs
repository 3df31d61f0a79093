//! Logging: what the process tells its operator, on standard error.
//!
//! One line for each event, as JSON or text, through `tracing`; records of crates that use `log` join in. Levels come
//! from the configuration, with one exception that nobody can lift: crates that print cookies, headers or passwords at
//! `debug` (pingora, h2, hyper, rustls) stay at `info`.

use std::io;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterFn, filter_fn},
    fmt::MakeWriter,
    layer::{Layered, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config;

/// The filter of the log, to be changed while it runs.
pub struct Filter(reload::Handle<EnvFilter, Filtered>);

type Filtered = Layered<FilterFn<fn(&Metadata<'_>) -> bool>, Registry>;

impl Filter {
    /// Filters as configured from now on. (How lines look stays.)
    pub fn set(&self, log: &config::Log) {
        let changed = EnvFilter::try_new(&log.filter).map_err(anyhow::Error::from);
        if let Err(error) = changed.and_then(|filter| Ok(self.0.reload(filter)?)) {
            tracing::error!(%error, "the filter of the log stays as it was");
        }
    }
}

/// Starts logging for the whole process. Once.
///
/// # Errors
/// When the filter cannot be read, or logging has been started already.
pub fn start(log: &config::Log) -> anyhow::Result<Filter> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| anyhow::anyhow!("log.filter: `{}` cannot be read: {error}", log.filter))?;
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter_fn(may_be_logged as fn(&Metadata<'_>) -> bool))
        .with(filter)
        .with(layer(log.json, io::stderr))
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    Ok(Filter(handle))
}

/// Crates that print what nobody may read, below `info`.
const TALKATIVE: &[&str] = &["pingora", "h2", "hyper", "rustls", "tokio_rustls"];

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || !TALKATIVE.iter().any(|name| metadata.target().starts_with(name))
}

fn layer<S, W>(json: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    if json { layer.json().flatten_event(true).with_span_list(false).boxed() } else { layer.boxed() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, json: bool, work: impl FnOnce()) -> String {
        let out = Shared::default();
        let writer = out.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter_fn(may_be_logged))
            .with(EnvFilter::try_new(filter).unwrap())
            .with(layer(json, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = out.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// [D20] pingora prints request headers at debug.
    #[test]
    fn crates_that_print_cookies_stay_at_info_whatever_is_configured() {
        let text = logged("trace,pingora_proxy=trace", false, || {
            tracing::debug!(target: "pingora_proxy::proxy_h1", "Cookie: ZORGSESSIE=secret");
            tracing::trace!(target: "h2::codec", "password=secret");
            tracing::info!(target: "pingora_core::server", "listening");
            tracing::debug!(target: "sluis::proxy", "decided");
        });
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("listening") && text.contains("decided"), "{text}");
    }

    #[test]
    fn json_lines_have_named_fields() {
        let text = logged("info", true, || {
            tracing::info!(request_id = "r-1", status = 303, "answered");
            tracing::debug!("not this");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["request_id"], &line["status"]), (&"r-1".into(), &303.into()));
        assert_eq!((&line["message"], &line["level"]), (&"answered".into(), &"INFO".into()));
    }
}
