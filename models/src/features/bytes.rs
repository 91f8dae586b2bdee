//! A state as bytes and back, bit for bit: magic, version, print of the specification, body, xxh3 of all before it. Little endian.
//!
//! Panes that hold nothing are left out, and so are pane numbers, which follow from the newest reading. Bytes
//! of another version or specification are refused by name, damaged ones by their checksum, impossible ones by their place.

use super::accept::{Acceptance, Counts};
use super::commission::Stretch;
use super::panes::SLOTS;
use super::spec::FeatureSpec;
use super::state::DeviceState;
use super::times::{Odd, Times};
use super::wear::{Part, Ring, believable};

/// First bytes of a state.
const MAGIC: [u8; 4] = *b"HwSt";
/// The version of the form that this code writes and reads.
pub const STATE_VERSION: u16 = 1;
/// Magic, version, print.
const HEAD: usize = 4 + 2 + 8;
const CHECKSUM: usize = 8;

/// Why bytes are no state under a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// Not a state at all.
    #[error("no device state: it does not begin as one")]
    NotAState,
    /// Cut or changed on its way.
    #[error("device state: damaged, its checksum does not match")]
    Damaged,
    /// Of a version that this code does not know.
    #[error("device state of version {found}, expected {STATE_VERSION}: another homeward wrote it")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Of another specification of features, or of other fitted residuals.
    #[error("device state of features {found:016x}, expected {expected:016x}: the fleet's configuration or its fitted residuals changed")]
    Fingerprint {
        /// Print of the specification it was made under.
        found: u64,
        /// Print of the one it was to be read under.
        expected: u64,
    },
    /// Sound bytes that no state gives.
    #[error("device state: impossible {0}")]
    Impossible(&'static str),
}

impl DeviceState {
    /// The state as bytes: the same state gives the same bytes.
    pub fn to_bytes(&self, spec: &FeatureSpec) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(self.memory()));
        out.0.extend_from_slice(&MAGIC);
        out.0.extend_from_slice(&STATE_VERSION.to_le_bytes());
        out.u64(spec.print());
        self.write_small(&mut out);
        self.write_windows(&mut out);
        let checksum = xxhash_rust::xxh3::xxh3_64(&out.0);
        out.u64(checksum);
        out.0
    }

    /// The state that [`DeviceState::to_bytes`] made under `spec`; it goes on as if it had never stopped.
    pub fn from_bytes(spec: &FeatureSpec, bytes: &[u8]) -> Result<Self, BadState> {
        if bytes.len() < HEAD + CHECKSUM || bytes[..4] != MAGIC {
            return Err(BadState::NotAState);
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != STATE_VERSION {
            return Err(BadState::Version { found: version });
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() != checksum {
            return Err(BadState::Damaged);
        }
        let mut input = Reader(&body[6..]);
        let found = input.u64()?;
        if found != spec.print() {
            return Err(BadState::Fingerprint { found, expected: spec.print() });
        }
        let mut state = Self::new(spec);
        state.read_small(&mut input)?;
        state.read_windows(spec, &mut input)?;
        if input.0.is_empty() { Ok(state) } else { Err(BadState::Impossible("length")) }
    }

    fn write_small(&self, out: &mut Writer) {
        let Acceptance { rising, standing, last_refused, counts, .. } = self.acceptance;
        out.time(self.acceptance.newest());
        out.u64(u64::from(rising));
        out.u64(u64::from(standing));
        out.u64(last_refused as u64);
        let Counts { accepted, clock_steps, late, duplicate, frozen_clock } = counts;
        [accepted, clock_steps, late, duplicate, frozen_clock, self.chain].into_iter().for_each(|n| out.u64(n));
        out.time(self.gap);
        out.f64s(&[self.missing]);
        for Stretch { start, over } in &self.commissioning.stretches {
            out.time(*start);
            out.0.push(u8::from(*over));
        }
        [&self.commissioning.n, &self.commissioning.mean, &self.commissioning.first].into_iter().for_each(|f| out.f64s(f));
        for Part { since, used } in &self.wear.parts {
            out.time(*since);
            out.time(*used);
        }
        self.wear.newest.iter().for_each(|at| out.time(*at));
        for (tag, count) in self.wear.rings.iter().flat_map(|ring| ring.0) {
            out.u64(tag as u64);
            out.u64(u64::from(count));
        }
        out.f64s(&self.wear.attributes);
    }

    fn read_small(&mut self, input: &mut Reader<'_>) -> Result<(), BadState> {
        let newest = input.time()?;
        let (rising, standing) = (input.u64()?, input.u64()?);
        let last_refused = input.u64()? as i64;
        let mut counts = [0; 5];
        for count in &mut counts {
            *count = input.u64()?;
        }
        let [accepted, clock_steps, late, duplicate, frozen_clock] = counts;
        let small = |n: u64| u32::try_from(n).map_err(|_| BadState::Impossible("count"));
        if counts.iter().any(|n| *n >= 1 << 53) || rising >= 10 || (accepted == 0) != newest.is_none() || !believable(last_refused) {
            return Err(BadState::Impossible("acceptance"));
        }
        self.acceptance = Acceptance::resumed(newest, Counts { accepted, clock_steps, late, duplicate, frozen_clock });
        (self.acceptance.rising, self.acceptance.standing, self.acceptance.last_refused) = (small(rising)?, small(standing)?, last_refused);
        self.chain = input.u64()?;
        self.gap = input.time()?;
        input.f64s(std::slice::from_mut(&mut self.missing))?;
        for stretch in &mut self.commissioning.stretches {
            *stretch = Stretch { start: input.time()?, over: input.flag()? };
        }
        for fields in [&mut self.commissioning.n, &mut self.commissioning.mean, &mut self.commissioning.first] {
            input.f64s(fields)?;
        }
        for part in &mut self.wear.parts {
            *part = Part { since: input.time()?, used: input.time()? };
        }
        for at in &mut self.wear.newest {
            *at = input.time()?;
        }
        for Ring(panes) in &mut self.wear.rings {
            for (tag, count) in panes {
                (*tag, *count) = (input.u64()? as i64, small(input.u64()?)?);
            }
        }
        input.f64s(&mut self.wear.attributes)
    }

    fn write_windows(&self, out: &mut Writer) {
        let windows = &self.windows;
        out.f64s(&windows.last);
        out.f64s(&windows.ewm);
        windows.newest.iter().for_each(|ts| out.u64(*ts as u64));
        for (window, times) in windows.times.iter().enumerate() {
            for slot in 0..SLOTS {
                let held = times.all[slot].n != 0.0;
                out.0.push(u8::from(held));
                if held {
                    out.times(times.all[slot]);
                    out.u64(times.odd(slot).len() as u64);
                    for Odd { channel, times } in times.odd(slot) {
                        out.u64(u64::from(*channel));
                        out.times(*times);
                    }
                    out.f64s(windows.pane(window, slot));
                }
            }
        }
    }

    fn read_windows(&mut self, spec: &FeatureSpec, input: &mut Reader<'_>) -> Result<(), BadState> {
        let channels = spec.channels().len();
        let newest = self.newest();
        let windows = &mut self.windows;
        input.f64s(&mut windows.last)?;
        input.f64s(&mut windows.ewm)?;
        for ts in &mut windows.newest {
            *ts = input.time()?.unwrap_or(i64::MIN);
            if newest.is_none_or(|newest| *ts > newest) && *ts != i64::MIN {
                return Err(BadState::Impossible("time of a newest value"));
            }
        }
        for window in 0..windows.times.len() {
            for slot in 0..SLOTS {
                if input.flag()? {
                    let all = input.times()?;
                    let odd = input.odd(channels)?;
                    windows.times[window].set(slot, all, &odd);
                    input.f64s(windows.pane_mut(window, slot))?;
                }
            }
        }
        if let Some(newest) = newest {
            self.windows.resume(&spec.fleet().windows, newest);
        }
        Ok(())
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A time or a span in milliseconds; `i64::MIN` for none.
    fn time(&mut self, value: Option<i64>) {
        self.u64(value.unwrap_or(i64::MIN) as u64);
    }

    fn times(&mut self, Times { n, mean, squares }: Times) {
        self.f64s(&[n, mean, squares]);
    }

    fn f64s(&mut self, values: &[f64]) {
        values.iter().for_each(|x| self.u64(x.to_bits()));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadState> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadState::Impossible("length"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, BadState> {
        self.take().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, BadState> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(BadState::Impossible("flag")),
        }
    }

    fn time(&mut self) -> Result<Option<i64>, BadState> {
        match self.u64()? as i64 {
            i64::MIN => Ok(None),
            ms if believable(ms) => Ok(Some(ms)),
            _ => Err(BadState::Impossible("time")),
        }
    }

    fn times(&mut self) -> Result<Times, BadState> {
        let mut values = [0.0; 3];
        self.f64s(&mut values)?;
        let [n, mean, squares] = values;
        if n >= 0.0 && n < 9e15 && n.fract() == 0.0 { Ok(Times { n, mean, squares }) } else { Err(BadState::Impossible("count")) }
    }

    /// Channels with times of their own, ascending.
    fn odd(&mut self, channels: usize) -> Result<Vec<Odd>, BadState> {
        let mut all: Vec<Odd> = Vec::new();
        for _ in 0..self.u64()? {
            let channel = self.u64()?;
            let rises = all.last().is_none_or(|before| u64::from(before.channel) < channel);
            let channel =
                u32::try_from(channel).ok().filter(|c| rises && (*c as usize) < channels).ok_or(BadState::Impossible("odd channel"))?;
            all.push(Odd { channel, times: self.times()? });
        }
        Ok(all)
    }

    fn f64s(&mut self, values: &mut [f64]) -> Result<(), BadState> {
        for value in values {
            *value = f64::from_bits(self.u64()?);
        }
        Ok(())
    }
}
