//! Everything predict remembers as bytes and back: magic with version, position, header, devices, xxh3 of all before it.
//!
//! A device's windows are bytes of their own, under the specification of their features ([`DeviceState::to_bytes`]). Where they cannot be
//! restored, because the fleet's configuration changed, the device's windows begin anew, and its alert goes on standing all the same.

use homeward_models::DeviceId;
use homeward_models::call::Advice;
use homeward_models::decision::{Gate, GateMemory, Sight, Standing};
use homeward_models::drift::Monitor;
use homeward_models::features::{DeviceState, FeatureSpec};
use homeward_models::wire::AckStatus;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::device::Device;
use crate::fleet::FleetState;

/// First bytes, the version last.
const MAGIC: &[u8; 8] = b"HWPRED01";

/// What is kept of the fleet at a position of the inbox.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The first message that is not in it.
    pub(crate) position: u64,
    /// The journal that the position is of.
    pub(crate) journal: String,
    /// The version in service from that position on.
    pub(crate) model: Option<String>,
    /// The present day's counts.
    pub(crate) monitor: Monitor,
    devices: Vec<(KeptDevice, Vec<u8>)>,
}

/// Why bytes are no memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMemory {
    /// Another version's, or something else.
    #[error("found other first bytes than HWPRED01: another version of homeward wrote it")]
    Version,
    /// Cut or changed.
    #[error("damaged: its checksum does not match")]
    Damaged,
    /// Sound bytes that say nothing.
    #[error("impossible: {0}")]
    Impossible(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    journal: String,
    model: Option<String>,
    monitor: Monitor,
    devices: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptDevice {
    id: String,
    gate: (bool, Option<(i64, u32)>, Option<i64>),
    standing: Option<KeptStanding>,
    advice: String,
    operators_only: bool,
    ts: i64,
    risks: Vec<f64>,
    call_ends: i64,
    expired: bool,
    health_at: i64,
    seen: Vec<(i64, Option<f64>)>,
    home: Option<[f64; 2]>,
    model: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptStanding {
    alert_id: String,
    raised_ts: i64,
    revision: u32,
    called_ts: i64,
    answer: Option<String>,
    component: Option<String>,
}

const ANSWERS: [(AckStatus, &str); 4] = [
    (AckStatus::Accepted, "accepted"),
    (AckStatus::Rejected, "rejected"),
    (AckStatus::Done, "done"),
    (AckStatus::Failed, "failed"),
];
const ADVICES: [(Advice, &str); 4] =
    [(Advice::Fly, "fly"), (Advice::Return, "return"), (Advice::Land, "land"), (Advice::NoTakeoff, "no_takeoff")];

fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    words.iter().find(|(v, _)| v == value).map_or("", |w| w.1)
}

fn meaning<T: Copy>(words: &[(T, &str)], text: &str) -> Result<T, BadMemory> {
    words.iter().find(|(_, w)| *w == text).map(|w| w.0).ok_or_else(|| BadMemory::Impossible(format!("word {text:?}")))
}

/// The whole of `fleet` at `position` of `journal`. The same fleet gives the same bytes.
pub(crate) fn remember(fleet: &FleetState, position: u64, journal: &str) -> Vec<u8> {
    let mut devices: Vec<&Device> = fleet.devices.values().collect();
    devices.sort_unstable_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let header = Header {
        journal: journal.to_owned(),
        model: fleet.service.as_ref().map(|s| s.version.clone()),
        monitor: fleet.monitor.clone(),
        devices: devices.len() as u64,
    };
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&position.to_le_bytes());
    push(&mut bytes, &json(&header));
    for device in devices {
        push(&mut bytes, &json(&KeptDevice::of(device)));
        push(&mut bytes, &device.state.to_bytes(fleet.spec()));
    }
    let sum = xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and lists of them: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    bytes.extend_from_slice(part);
}

impl Memory {
    /// Reads what [`remember`] wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadMemory> {
        if !bytes.starts_with(MAGIC) {
            return Err(BadMemory::Version);
        }
        let (body, sum) = bytes.split_at_checked(bytes.len().saturating_sub(8)).ok_or(BadMemory::Damaged)?;
        if xxh3_64(body).to_le_bytes() != sum {
            return Err(BadMemory::Damaged);
        }
        let mut rest = &body[MAGIC.len()..];
        let position = number(&mut rest)?;
        let header: Header = read(part(&mut rest)?)?;
        let mut devices = Vec::new();
        for _ in 0..header.devices {
            let kept = read(part(&mut rest)?)?;
            devices.push((kept, part(&mut rest)?.to_vec()));
        }
        Ok(Self { position, journal: header.journal, model: header.model, monitor: header.monitor, devices })
    }

    /// The devices under the features of the model in service, and how many states could not be restored, with the first reason.
    pub(crate) fn devices(self, spec: &FeatureSpec) -> Result<(Vec<Device>, usize, Option<String>), BadMemory> {
        let (mut lost, mut why) = (0, None);
        let mut devices = Vec::with_capacity(self.devices.len());
        for (kept, state) in self.devices {
            let state = DeviceState::from_bytes(spec, &state).unwrap_or_else(|error| {
                lost += 1;
                why.get_or_insert_with(|| error.to_string());
                DeviceState::new(spec)
            });
            devices.push(kept.device(state)?);
        }
        Ok((devices, lost, why))
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, BadMemory> {
    serde_json::from_slice(bytes).map_err(|e| BadMemory::Impossible(e.to_string()))
}

fn number(rest: &mut &[u8]) -> Result<u64, BadMemory> {
    let (head, tail) = rest.split_first_chunk::<8>().ok_or_else(|| BadMemory::Impossible("length".into()))?;
    *rest = tail;
    Ok(u64::from_le_bytes(*head))
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadMemory> {
    let len = number(rest)?;
    let cut = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
    let (part, tail) = cut.ok_or_else(|| BadMemory::Impossible("length".into()))?;
    *rest = tail;
    Ok(part)
}

impl KeptDevice {
    fn of(d: &Device) -> Self {
        let gate = d.gate.memory();
        Self {
            id: d.id.as_str().to_owned(),
            gate: (gate.raised, gate.above, gate.below),
            standing: d.standing.as_ref().map(KeptStanding::of),
            advice: word(&ADVICES, &d.advice).to_owned(),
            operators_only: d.operators_only,
            ts: d.ts,
            risks: d.risks.clone(),
            call_ends: d.call_ends,
            expired: d.expired,
            health_at: d.health_at,
            seen: d.sight.seen.iter().map(|(ts, v)| (*ts, v.is_finite().then_some(*v))).collect(),
            home: d.sight.home,
            model: d.model.clone(),
        }
    }

    fn device(self, state: DeviceState) -> Result<Device, BadMemory> {
        let (raised, above, below) = self.gate;
        let id = DeviceId::parse(&self.id).map_err(|e| BadMemory::Impossible(e.to_string()))?;
        Ok(Device {
            id,
            state,
            gate: Gate::recall(GateMemory { raised, above, below }),
            standing: self.standing.map(KeptStanding::standing).transpose()?,
            advice: meaning(&ADVICES, &self.advice)?,
            operators_only: self.operators_only,
            ts: self.ts,
            risks: self.risks,
            call_ends: self.call_ends,
            expired: self.expired,
            health_at: self.health_at,
            sight: Sight { seen: self.seen.into_iter().map(|(ts, v)| (ts, v.unwrap_or(f64::NAN))).collect(), home: self.home },
            model: self.model,
        })
    }
}

impl KeptStanding {
    fn of(s: &Standing) -> Self {
        Self {
            alert_id: s.alert_id.clone(),
            raised_ts: s.raised_ts,
            revision: s.revision,
            called_ts: s.called_ts,
            answer: s.answer.map(|a| word(&ANSWERS, &a).to_owned()),
            component: s.component.clone(),
        }
    }

    fn standing(self) -> Result<Standing, BadMemory> {
        Ok(Standing {
            alert_id: self.alert_id,
            raised_ts: self.raised_ts,
            revision: self.revision,
            called_ts: self.called_ts,
            answer: self.answer.map(|a| meaning(&ANSWERS, &a)).transpose()?,
            component: self.component,
        })
    }
}
