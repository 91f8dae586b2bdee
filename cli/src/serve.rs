//! What operators look at over HTTP: `/metrics` (Prometheus text), `/healthz` (the process answers), `/readyz` (it does its work, or why not).

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use homeward_broker::{InboxStats, LatencyView};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The type of what Prometheus reads.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A service as its operators see it.
pub(crate) trait Watched: Send + Sync + 'static {
    /// Writes every metric, read now.
    fn metrics(&self, to: &mut Page<'_>) -> fmt::Result;

    /// Everything that keeps it from its work, one line each; empty when it is ready.
    fn troubles(&self) -> Vec<String>;
}

/// The server; stops when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `watched` at `listen` (`address:port`).
pub(crate) async fn serve(listen: &str, watched: Arc<impl Watched>) -> anyhow::Result<Server> {
    let socket = TcpListener::bind(listen).await.with_context(|| format!("serve.listen: cannot listen on {listen}"))?;
    tracing::info!(address = %socket.local_addr()?, "serving /metrics, /healthz and /readyz");
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(watched as Arc<dyn Watched>);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(socket, router).await {
            tracing::error!(%error, "the metrics server ended");
        }
    });
    Ok(Server { task })
}

async fn metrics(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    let mut registry = Registry::with_prefix("homeward");
    registry.register_collector(Box::new(Collector(watched)));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, TEXT)], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

async fn ready(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    let troubles = watched.troubles();
    match troubles.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n"),
    }
}

struct Collector(Arc<dyn Watched>);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.metrics(&mut Page(encoder))
    }
}

/// A page of metrics that is being written.
pub(crate) struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// What only grows; `_total` is added to the name.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    /// A counter by label.
    pub(crate) fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            ConstCounter::new(count).encode(encoder.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    /// What goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// Gauges by label.
    pub(crate) fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, f64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, gauge) in values {
            ConstGauge::new(gauge).encode(encoder.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    /// A span of time, in seconds; `_seconds` is added to the name.
    pub(crate) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// How long things took; `_seconds` is added to the name.
    pub(crate) fn latency(&mut self, name: &str, help: &str, view: &LatencyView) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(view.sum_s, view.count, &view.buckets, None)
    }

    /// A service's connection to the broker.
    pub(crate) fn inbox(&mut self, stats: &InboxStats) -> fmt::Result {
        self.gauge("broker_connected", "1 while the connection to the broker stands", f64::from(u8::from(stats.connected)))?;
        self.counter("received", "Messages that came from the broker, repetitions included", stats.received)?;
        self.counter("received_bytes", "Bytes of their payloads", stats.received_bytes)?;
        self.counter("acknowledged", "Acknowledgements written to the connection", stats.acked)?;
        self.counter("stale_acks", "Acknowledgements not sent, since their connection had ended", stats.stale_acks_dropped)?;
        self.counter("reconnects", "Connections after the first", stats.reconnects)?;
        self.counter("sessions_lost", "Connections at which the broker had lost our session, and perhaps messages", stats.session_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sick;

    impl Watched for Sick {
        fn metrics(&self, to: &mut Page<'_>) -> fmt::Result {
            to.counter("received", "Messages", 3)?;
            to.counters("quarantined", "By reason", "reason", [("not_json", 2)])?;
            to.seconds("store_age", "Age", 1.5)
        }
        fn troubles(&self) -> Vec<String> {
            vec!["the store is away".into()]
        }
    }

    #[tokio::test]
    async fn metrics_are_text_and_a_trouble_is_503_with_its_words() {
        let watched: Arc<dyn Watched> = Arc::new(Sick);
        let page = metrics(State(watched.clone())).await.into_response();
        let body = axum::body::to_bytes(page.into_body(), 1 << 16).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        for line in ["homeward_received_total 3", "homeward_quarantined_total{reason=\"not_json\"} 2", "homeward_store_age_seconds 1.5"] {
            assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
        }
        let answer = ready(State(watched)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        assert_eq!(body, "the store is away\n");
    }
}
