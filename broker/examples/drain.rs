//! How fast a broker is filled and drained: `drain prepare`, `drain fill`, then `drain drain` or,
//! for comparison, `drain bare` (a loop over rumqttc's own client that only counts and acknowledges).
//!
//! `prepare` makes the session, so that the broker keeps what `fill` publishes.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use homeward_broker::{Inbox, MqttInbox, MqttOutbox, Options, Outbox, Outgoing, Settings};

/// Devices in the backlog, each at 10 Hz of its own clock.
const DEVICES: u64 = 100;
/// `ts` of the first readings.
const BEGIN: u64 = 1_764_000_000_000;
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
    /// Fills with this many messages a second; as fast as the broker confirms, if left out.
    #[arg(long)]
    rate: Option<f64>,
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
    let mut receipts = std::collections::VecDeque::new();
    let begun = Instant::now();
    for first in (0..arguments.count).step_by(BATCH) {
        if let Some(rate) = arguments.rate {
            tokio::time::sleep_until((begun + Duration::from_secs_f64(first as f64 / rate)).into()).await;
        }
        let messages = (first..arguments.count.min(first + BATCH as u64)).map(message);
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

/// The n-th message: a reading as a sample drone sends it, 20 signals in 314 bytes, none like another.
fn message(n: u64) -> Outgoing {
    let (device, tick) = (n % DEVICES, n / DEVICES);
    // A number of that many steps that wanders with the device and the time, and never changes its width.
    let wander = |signal: u64, steps: u64| (n.wrapping_mul(0x9e37_79b9) >> 7).wrapping_add(signal * 7919 + tick * signal) % steps;
    let payload = format!(
        concat!(
            r#"{{"ts":{ts},"battery":{{"v":15.{v:02},"a":1{a}.3,"temp":31.{t},"soc":0.{soc:02}}},"#,
            r#""motor":[{{"temp":6{m0}.2,"rpm":6{r0:03}}},{{"temp":6{m1}.2,"rpm":6{r1:03}}},"#,
            r#"{{"temp":6{m2}.2,"rpm":6{r2:03}}},{{"temp":6{m3}.2,"rpm":6{r3:03}}}],"#,
            r#""vibration":{{"x":0.{x:03},"y":0.{y:03},"z":0.{z:03}}},"throttle":0.{th:03},"airspeed":8.{air:02},"#,
            r#""position":{{"lat":37.{lat:04},"lon":127.{lon:04},"alt":8{alt}.1}}}}"#
        ),
        ts = BEGIN + tick * 100,
        v = wander(1, 90) + 10,
        a = wander(2, 9),
        t = wander(3, 10),
        soc = wander(4, 90) + 10,
        m0 = wander(5, 10),
        r0 = wander(6, 900) + 100,
        m1 = wander(7, 10),
        r1 = wander(8, 900) + 100,
        m2 = wander(9, 10),
        r2 = wander(10, 900) + 100,
        m3 = wander(11, 10),
        r3 = wander(12, 900) + 100,
        x = wander(13, 900) + 100,
        y = wander(14, 900) + 100,
        z = wander(15, 900) + 100,
        th = wander(16, 900) + 100,
        air = wander(17, 90) + 10,
        lat = wander(18, 9_000) + 1_000,
        lon = wander(19, 9_000) + 1_000,
        alt = wander(20, 10),
    );
    Outgoing::new(format!("fleet/d-{device:03}/telemetry"), payload)
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
