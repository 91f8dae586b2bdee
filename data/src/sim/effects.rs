//! What a fault does to a motor: the coupling between [`Symptom`] and the physics.

use super::faults::{FaultKind, Symptom};
use super::rng::Dice;

/// What a fault does to one motor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Effect {
    /// Relative change of its speed.
    pub(super) speed: f64,
    /// Relative change of its current.
    pub(super) drag: f64,
    /// Its target temperature rises by so many degrees.
    pub(super) heat: f64,
}

impl Effect {
    /// The effect on motor `motor`, 0–3.
    pub(super) fn of(symptom: Symptom, motor: usize, dice: &mut Dice) -> Self {
        let s = symptom.severity;
        let here = motor == symptom.motor;
        match symptom.kind {
            _ if s <= 0.0 => Effect::default(),
            FaultKind::Bearing if here => Effect { speed: -0.008 * s, drag: 0.16 * s, heat: 17.0 * s },
            FaultKind::Propeller if here => Effect { speed: 0.055 * s, drag: 0.05 * s, heat: 0.0 },
            FaultKind::SpeedController => {
                let worst = if here { 1.0 } else { 0.35 };
                Effect { speed: 0.045 * s * worst * dice.gauss(), drag: 0.0, heat: if here { 20.0 * s } else { 0.0 } }
            }
            _ => Effect::default(),
        }
    }
}

impl Symptom {
    /// The severity if the fault is of this kind, else 0.
    pub(super) fn part(self, kind: FaultKind) -> f64 {
        if self.kind == kind { self.severity } else { 0.0 }
    }
}
