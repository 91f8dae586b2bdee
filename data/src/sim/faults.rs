//! What breaks, how it grows, and the truth about it that the telemetry only hints at.

use super::rng::Dice;

/// A part that can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// The battery pack.
    Battery,
    /// Motor 1–4 with its propeller.
    Motor(u8),
    /// The speed controllers (one board for the four motors).
    Esc,
}

impl Component {
    /// The name on the wire: `battery`, `motor_1` … `motor_4`, `esc`.
    pub fn as_str(self) -> &'static str {
        match self {
            Component::Battery => "battery",
            Component::Motor(1) => "motor_1",
            Component::Motor(2) => "motor_2",
            Component::Motor(3) => "motor_3",
            Component::Motor(_) => "motor_4",
            Component::Esc => "esc",
        }
    }
}

/// The way in which something breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A motor's bearing wears: vibration, heat, current.
    Bearing,
    /// A motor's propeller is damaged: vibration at rotor speed, and it must turn faster for its thrust.
    Propeller,
    /// A cell of the battery weakens: the voltage sags under load and the pack heats.
    Cell,
    /// A speed controller overheats: the speeds waver, the current ripples, one motor warms.
    SpeedController,
    /// Something breaks that nothing announced.
    Sudden,
}

impl FaultKind {
    /// The name in the truth file: `bearing`, `propeller`, `cell`, `speed_controller`, `sudden`.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Bearing => "bearing",
            FaultKind::Propeller => "propeller",
            FaultKind::Cell => "cell",
            FaultKind::SpeedController => "speed_controller",
            FaultKind::Sudden => "sudden",
        }
    }
}

/// How a fault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It broke in the air.
    Failed,
    /// The drone was called home and the part replaced before it broke.
    Saved,
    /// The simulation ended first.
    Pending,
}

impl Outcome {
    /// The name in the truth file: `failed`, `saved`, `pending`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Failed => "failed",
            Outcome::Saved => "saved",
            Outcome::Pending => "pending",
        }
    }
}

/// What was wrong with a drone, since when, and how it ended. Times are true ones, milliseconds since 1970 UTC, even
/// where the drone's clock had jumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// The drone.
    pub device: String,
    /// The part that broke or would have.
    pub component: Component,
    /// The way in which.
    pub kind: FaultKind,
    /// When the fault began to show; of a sudden failure, the failure itself.
    pub onset_ms: i64,
    /// When it failed, or would have if nobody had called and the drone had flown on as planned.
    pub failure_ms: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// When the drone was first called home while the fault grew and it obeyed.
    pub called_ms: Option<i64>,
}

impl Truth {
    /// Whether nothing announced it.
    pub fn sudden(&self) -> bool {
        self.kind == FaultKind::Sudden
    }

    /// Appends one JSON line: `device component kind onset_ms failure_ms outcome sudden called_ms`.
    pub fn append_line(&self, out: &mut Vec<u8>) {
        let called = self.called_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string());
        let line = format!(
            "{{\"device\":\"{}\",\"component\":\"{}\",\"kind\":\"{}\",\"onset_ms\":{},\"failure_ms\":{},\
             \"outcome\":\"{}\",\"sudden\":{},\"called_ms\":{called}}}\n",
            self.device,
            self.component.as_str(),
            self.kind.as_str(),
            self.onset_ms,
            self.failure_ms,
            self.outcome.as_str(),
            self.sudden(),
        );
        out.extend_from_slice(line.as_bytes());
    }
}

/// A fault drawn for a drone's future, in its own flying time.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) kind: FaultKind,
    pub(crate) component: Component,
    /// Flying time at which it begins to show.
    pub(crate) onset: i64,
    /// Flying time at which it fails.
    pub(crate) failure: i64,
    /// The motor that shows it, 0–3; for a speed controller the one it drives worst.
    motor: usize,
    /// How strongly it shows at failure; 1 is typical.
    strength: f64,
    /// Convexity of its growth: severity is strength × (share of its growth)^exponent.
    exponent: f64,
}

/// How much of a fault shows now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symptom {
    pub(crate) kind: FaultKind,
    pub(crate) motor: usize,
    /// 0 when nothing shows, about 1 at the failure.
    pub(crate) severity: f64,
}

impl Fate {
    /// Flying time after a repair during which nothing begins: new parts run in.
    const GRACE_H: f64 = 1.0 / 6.0;
    const MS_PER_H: f64 = 3_600_000.0;

    /// Draws the next fault of a drone that has flown `flown` ms.
    ///
    /// Announced faults come every `mean_life_h` on average; sudden ones come on top at the rate that gives them their share.
    pub(crate) fn draw(flown: i64, mean_life_h: f64, sudden_share: f64, dice: &mut Dice) -> Self {
        let mean = (mean_life_h - Self::GRACE_H) * (1.0 - sudden_share);
        let onset = flown + ((Self::GRACE_H + mean * dice.exponential()) * Self::MS_PER_H) as i64;
        let growth = dice.seconds(20.0 * 60.0, 60.0 * 60.0);
        let (sudden, motor, kind) = (dice.chance(sudden_share), dice.below(4), dice.unit());
        let (strength, exponent) = (dice.range(0.85, 1.4), dice.range(1.2, 2.4));
        let (kind, component) = Self::what(kind, motor);
        let (kind, failure) = if sudden { (FaultKind::Sudden, onset) } else { (kind, onset + growth) };
        Fate { kind, component, onset, failure, motor, strength, exponent }
    }

    fn what(share: f64, motor: usize) -> (FaultKind, Component) {
        let this_motor = Component::Motor(motor as u8 + 1);
        match share {
            s if s < 0.32 => (FaultKind::Bearing, this_motor),
            s if s < 0.56 => (FaultKind::Propeller, this_motor),
            s if s < 0.80 => (FaultKind::Cell, Component::Battery),
            _ => (FaultKind::SpeedController, Component::Esc),
        }
    }

    /// Whether the fault has begun and could be found by an inspection.
    pub(crate) fn grows(&self, flown: i64) -> bool {
        self.kind != FaultKind::Sudden && flown >= self.onset
    }

    /// Share of its growth that lies behind, 0–1.
    pub(crate) fn progress(&self, flown: i64) -> f64 {
        if !self.grows(flown) {
            return 0.0;
        }
        (flown - self.onset) as f64 / (self.failure - self.onset) as f64
    }

    /// What shows after `flown` ms of flying.
    pub(crate) fn symptom(&self, flown: i64) -> Symptom {
        let progress = self.progress(flown);
        let severity = if progress > 0.0 { self.strength * libm::pow(progress, self.exponent) } else { 0.0 };
        Symptom { kind: self.kind, motor: self.motor, severity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_grow_convexly_over_20_to_60_minutes() {
        let mut dice = Dice::new(3, 0);
        for _ in 0..500 {
            let fate = Fate::draw(1000, 1.5, 0.0, &mut dice);
            let growth = fate.failure - fate.onset;
            assert!((1_200_000..3_600_000).contains(&growth), "{growth}");
            let middle = fate.symptom(fate.onset + growth / 2).severity;
            let end = fate.symptom(fate.failure).severity;
            assert!(fate.symptom(fate.onset - 1).severity == 0.0 && middle > 0.0 && middle < end / 2.0);
        }
    }

    #[test]
    fn rates_and_shares_are_those_asked_for() {
        let mut dice = Dice::new(4, 0);
        let fates: Vec<Fate> = (0..20_000).map(|_| Fate::draw(0, 2.0, 0.25, &mut dice)).collect();
        let sudden = fates.iter().filter(|f| f.kind == FaultKind::Sudden).count() as f64 / 20_000.0;
        assert!((sudden - 0.25).abs() < 0.02, "{sudden}");
        let mean_h = fates.iter().map(|f| f.onset as f64).sum::<f64>() / 20_000.0 / 3_600_000.0;
        assert!((mean_h - (1.0 / 6.0 + (2.0 - 1.0 / 6.0) * 0.75)).abs() < 0.05, "{mean_h}");
        assert!(fates.iter().filter(|f| f.kind == FaultKind::Sudden).all(|f| f.onset == f.failure));
    }
}
