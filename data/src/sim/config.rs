//! What a simulated fleet is made of, checked before anything flies.

use thiserror::Error;

/// A value of the simulation's configuration that cannot be; correct it and try again.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{key} = {found}: {want}")]
pub struct ConfigError {
    /// The field's name, e.g. `rate_hz` or `mess.late`.
    pub key: &'static str,
    /// What was given.
    pub found: String,
    /// What would be right.
    pub want: &'static str,
}

/// How untidy the telemetry is. Every value but `noise` is a probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mess {
    /// Scale of the sensors' noise: 1 is a good sensor's, 0 none. Default 1.
    pub noise: f64,
    /// Share of values that are `null`. Default 0.0002.
    pub missing: f64,
    /// Share of readings sent twice, the second time 20–500 ms later. Default 0.001.
    pub duplicate: f64,
    /// Share of readings sent 2–10 s late, after newer ones. Default 0.001.
    pub late: f64,
    /// Chance per reading that one sensor freezes for 30–300 s. Default 0.00002.
    pub frozen: f64,
    /// Chance per reading that the device's clock steps by 3–300 s, back or forth, and stays. Default 0.000005.
    pub clock_jump: f64,
}

impl Mess {
    /// Perfect sensors, network and clocks.
    pub fn none() -> Self {
        Mess { noise: 0.0, missing: 0.0, duplicate: 0.0, late: 0.0, frozen: 0.0, clock_jump: 0.0 }
    }
}

impl Default for Mess {
    fn default() -> Self {
        Mess { noise: 1.0, missing: 2e-4, duplicate: 1e-3, late: 1e-3, frozen: 2e-5, clock_jump: 5e-6 }
    }
}

/// A fleet to simulate, as asked for. [`SimConfig::check`] makes it a [`CheckedConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// Same seed, configuration and calls: same bytes. Default 1.
    pub seed: u64,
    /// Number of drones, `d-001` and on; 1–100,000. Default 20.
    pub drones: usize,
    /// The moment the simulation begins, milliseconds since 1970 UTC. Default 2026-01-01.
    pub start_ms: i64,
    /// Simulated time, seconds. Default 8 h.
    pub duration_s: f64,
    /// Readings a second and drone while it flies; 0.01–100. Default 1.
    pub rate_hz: f64,
    /// Mean flying hours of a drone from its last repair to the onset of the next announced fault; at least 0.25. The
    /// fault then grows over 20–60 flying minutes before it breaks something. Default 1.5: drones worn enough for a demonstration.
    pub mean_life_h: f64,
    /// How long a drone rests between flights, in units of the default's 5–15 min; 1–1000. Default 1.
    pub rest: f64,
    /// Share of failures that nothing announces, 0–0.9. Default 0.1.
    pub sudden_share: f64,
    /// Whether drones obey a call to return. Default true.
    pub obey: bool,
    /// How untidy the telemetry is.
    pub mess: Mess,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            seed: 1,
            drones: 20,
            start_ms: 1_767_225_600_000,
            duration_s: 8.0 * 3600.0,
            rate_hz: 1.0,
            mean_life_h: 1.5,
            rest: 1.0,
            sudden_share: 0.1,
            obey: true,
            mess: Mess::default(),
        }
    }
}

/// A configuration that [`SimConfig::check`] has found possible.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedConfig(SimConfig);

impl SimConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that cannot be, with its key and what would be right.
    pub fn check(self) -> Result<CheckedConfig, ConfigError> {
        within("drones", self.drones as f64, 1.0, 100_000.0, "a whole number from 1 to 100000")?;
        // Year 2200: sums of times stay far from overflow.
        within("start_ms", self.start_ms as f64, 0.0, 7.26e12, "milliseconds since 1970, before the year 2200")?;
        within("duration_s", self.duration_s, 1.0, 3.2e8, "seconds, from 1 to ten years")?;
        within("rate_hz", self.rate_hz, 0.01, 100.0, "readings a second, from 0.01 to 100")?;
        within("mean_life_h", self.mean_life_h, 0.25, 1e6, "flying hours, from 0.25 to 1000000")?;
        within("rest", self.rest, 1.0, 1000.0, "a factor from 1 to 1000")?;
        within("sudden_share", self.sudden_share, 0.0, 0.9, "a share from 0 to 0.9")?;
        self.mess.check()?;
        Ok(CheckedConfig(self))
    }
}

impl CheckedConfig {
    /// The values.
    pub fn get(&self) -> &SimConfig {
        &self.0
    }

    /// Time between two readings of a drone, milliseconds.
    pub(crate) fn period_ms(&self) -> i64 {
        (1000.0 / self.0.rate_hz + 0.5) as i64
    }

    /// The first moment that is no longer simulated.
    pub(crate) fn end_ms(&self) -> i64 {
        self.0.start_ms + (self.0.duration_s * 1000.0) as i64
    }
}

impl Mess {
    fn check(&self) -> Result<(), ConfigError> {
        const SHARE: &str = "a probability from 0 to 1";
        within("mess.noise", self.noise, 0.0, 100.0, "a scale from 0 to 100")?;
        within("mess.missing", self.missing, 0.0, 1.0, SHARE)?;
        within("mess.duplicate", self.duplicate, 0.0, 1.0, SHARE)?;
        within("mess.late", self.late, 0.0, 1.0, SHARE)?;
        within("mess.frozen", self.frozen, 0.0, 1.0, SHARE)?;
        within("mess.clock_jump", self.clock_jump, 0.0, 1.0, SHARE)
    }
}

fn within(key: &'static str, value: f64, low: f64, high: f64, want: &'static str) -> Result<(), ConfigError> {
    // NaN is within nothing.
    if value >= low && value <= high {
        return Ok(());
    }
    Err(ConfigError { key, found: value.to_string(), want })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut SimConfig)) -> &'static str {
        let mut config = SimConfig::default();
        change(&mut config);
        config.check().unwrap_err().key
    }

    #[test]
    fn the_default_is_possible() {
        assert!(SimConfig::default().check().is_ok());
    }

    #[test]
    fn impossible_values_are_named() {
        assert_eq!(refused(|c| c.drones = 0), "drones");
        assert_eq!(refused(|c| c.start_ms = -1), "start_ms");
        assert_eq!(refused(|c| c.duration_s = f64::INFINITY), "duration_s");
        assert_eq!(refused(|c| c.rate_hz = f64::NAN), "rate_hz");
        assert_eq!(refused(|c| c.mean_life_h = 0.1), "mean_life_h");
        assert_eq!(refused(|c| c.rest = 0.5), "rest");
        assert_eq!(refused(|c| c.sudden_share = 1.0), "sudden_share");
        assert_eq!(refused(|c| c.mess.noise = -1.0), "mess.noise");
        assert_eq!(refused(|c| c.mess.missing = 1.1), "mess.missing");
        assert_eq!(refused(|c| c.mess.duplicate = -0.1), "mess.duplicate");
        assert_eq!(refused(|c| c.mess.late = 2.0), "mess.late");
        assert_eq!(refused(|c| c.mess.frozen = f64::NAN), "mess.frozen");
        assert_eq!(refused(|c| c.mess.clock_jump = 1.5), "mess.clock_jump");
    }
}
