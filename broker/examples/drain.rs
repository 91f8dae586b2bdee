//! How fast a broker is filled and drained: `drain prepare`, `drain fill`, then `drain drain` or,
//! for comparison, `drain bare` (a loop over rumqttc's own client that only counts and acknowledges).
//!
//! `prepare` makes the session, so that the broker keeps what `fill` publishes.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use homeward_broker::{Inbox, MqttInbox, MqttOutbox, Options, Outbox, Outgoing, Settings};

/// A reading as a drone sends it, 314 bytes.
const READING: usize = 314;
const CLIENT: &str = "drain";
const FILTER: &str = "fleet/+/telemetry";
/// Messages submitted at once, and submissions under way.
const BATCH: usize = 2_000;
const UNDER_WAY: usize = 16;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Prepare,
    Fill,
    Drain,
    Bare,
}

#[derive(Parser)]
struct Arguments {
    mode: Mode,
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    url: String,
    #[arg(long, default_value_t = 500_000)]
    count: u64,
    /// Messages released at once.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
}

#[tokio::main]
async fn main() -> Outcome {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let begun = Instant::now();
    match arguments.mode {
        Mode::Prepare => return prepare(&arguments).await,
        Mode::Fill => fill(&arguments).await?,
        Mode::Drain => return drain(&arguments).await,
        Mode::Bare => return bare(&arguments).await,
    }
    report("fill", arguments.count, begun.elapsed())
}

fn report(what: &str, count: u64, took: Duration) -> Outcome {
    let rate = count as f64 / took.as_secs_f64();
    writeln!(std::io::stdout(), "{what}: {count} messages in {:.3} s: {rate:.0} msg/s", took.as_secs_f64())?;
    Ok(())
}

async fn open(arguments: &Arguments) -> Result<(std::sync::Arc<MqttInbox>, tokio::task::JoinHandle<()>), Box<dyn std::error::Error>> {
    let settings = Settings::check(Options::new(&arguments.url, CLIENT))?;
    Ok(MqttInbox::connect(settings, &[FILTER.to_owned()], std::future::pending()).await?)
}

async fn prepare(arguments: &Arguments) -> Outcome {
    let (inbox, driver) = open(arguments).await?;
    inbox.finish();
    driver.await?;
    Ok(())
}

async fn fill(arguments: &Arguments) -> Outcome {
    let settings = Settings::check(Options::new(&arguments.url, "drain-fill"))?;
    let (outbox, driver) = MqttOutbox::connect(settings, std::future::pending()).await?;
    let payload = bytes::Bytes::from(vec![b'x'; READING]);
    let mut receipts = std::collections::VecDeque::new();
    let mut left = arguments.count as usize;
    while left > 0 {
        let now = left.min(BATCH);
        left -= now;
        let messages = (0..now).map(|i| Outgoing::new(format!("fleet/d-{:03}/telemetry", i % 100), payload.clone()));
        receipts.push_back(outbox.submit(messages.collect()).await);
        if receipts.len() > UNDER_WAY
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.await?;
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    outbox.close();
    driver.await?;
    Ok(())
}

async fn drain(arguments: &Arguments) -> Outcome {
    let begun = Instant::now();
    let (inbox, driver) = open(arguments).await?;
    let mut next = inbox.attach("count")?;
    let mut batch = Vec::new();
    let mut bytes = 0;
    while next < arguments.count {
        inbox.read("count", next, arguments.batch, &mut batch).await?;
        next += batch.len() as u64;
        bytes += batch.iter().map(|message| message.payload.len()).sum::<usize>();
        batch.clear();
        inbox.release("count", next)?;
    }
    let took = begun.elapsed();
    inbox.close();
    driver.await?;
    writeln!(std::io::stdout(), "{bytes} payload bytes, {:?}", inbox.stats())?;
    report("drain", next, took)
}

async fn bare(arguments: &Arguments) -> Outcome {
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let url = url::Url::parse(&arguments.url)?;
    let mut options = MqttOptions::new(CLIENT, url.host_str().unwrap_or_default(), url.port().unwrap_or(1883));
    options.set_clean_start(false).set_manual_acks(true).set_session_expiry_interval(Some(3600));
    options.set_receive_maximum(Some(u16::MAX)).set_max_packet_size(Some(1 << 28));
    let begun = Instant::now();
    let (client, mut events) = AsyncClient::new(options, 200_000);
    let mut count = 0;
    while count < arguments.count {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await? {
            count += 1;
            client.try_ack(&publish)?;
        }
    }
    let took = begun.elapsed();
    client.try_disconnect()?;
    while events.poll().await.is_ok() {}
    report("bare", count, took)
}
