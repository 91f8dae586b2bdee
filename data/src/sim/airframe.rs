//! The physics of one quadcopter: thrust, current, heat, voltage, vibration, and what a fault adds to them.
//!
//! Simple on purpose, but wired as in a drone: wind, payload and speed ask for thrust; thrust for rotor speed; rotor speed
//! for current; current for heat and sag. So every signal moves a lot in good health, and moves together.

use super::effects::Effect;
use super::faults::{Component, FaultKind, Symptom};
use super::flight::{Flight, Motion};
use super::rng::Dice;
use super::wire::{SIGNALS, at};

/// One motor with its propeller as it left the factory.
#[derive(Debug, Clone, Copy, Default)]
struct Motor {
    /// Relative deviation of its speed.
    gain: f64,
    /// Relative deviation of its heating.
    heat: f64,
    /// Share of vibration it adds.
    imbalance: f64,
    temp: f64,
    rpm: f64,
}

/// A drone's body, its parts and the air around it.
#[derive(Debug, Clone)]
pub(crate) struct Airframe {
    pub(crate) motion: Motion,
    lat: f64,
    lon: f64,
    /// Degrees of longitude per metre here.
    lon_per_m: f64,
    motors: [Motor; 4],
    /// Of the pack, ohm.
    resistance: f64,
    capacity_ah: f64,
    soc: f64,
    battery_temp: f64,
    volt: f64,
    amp: f64,
    throttle: f64,
    vibration: [f64; 3],
    climate: f64,
    ambient: f64,
    wind: [f64; 2],
    gust: [f64; 2],
    airspeed: f64,
    pace: Pace,
}

/// What a step of constant length makes of the time constants.
#[derive(Debug, Clone, Copy)]
struct Pace {
    dt: f64,
    wind: f64,
    wind_kick: f64,
    gust: f64,
    gust_kick: f64,
    motor: f64,
    battery: f64,
}

impl Pace {
    fn new(dt: f64) -> Self {
        let (wind, gust) = (share(dt, 900.0), share(dt, 4.0));
        Pace {
            dt,
            wind,
            wind_kick: (wind * (2.0 - wind)).sqrt(),
            gust,
            gust_kick: (gust * (2.0 - gust)).sqrt(),
            motor: share(dt, 75.0),
            battery: share(dt, 260.0),
        }
    }
}

/// The share of the way to its target that a first-order lag with time constant `tau` goes in `dt`.
fn share(dt: f64, tau: f64) -> f64 {
    1.0 - libm::exp(-dt / tau)
}

const METRES_PER_DEGREE: f64 = 111_320.0;
/// Current of one healthy motor at its nominal speed, ampere.
const MOTOR_AMP: f64 = 2.75;
const NOMINAL_RPM: f64 = 6100.0;

impl Airframe {
    /// A new drone that steps by `dt` seconds.
    pub(crate) fn new(dt: f64, dice: &mut Dice) -> Self {
        let lat = 37.4979 + dice.range(-0.06, 0.06);
        let mut frame = Airframe {
            motion: Motion::default(),
            lat,
            lon: 127.0276 + dice.range(-0.06, 0.06),
            lon_per_m: 1.0 / (METRES_PER_DEGREE * libm::cos(lat.to_radians())),
            motors: [Motor::default(); 4],
            resistance: 0.0,
            capacity_ah: 0.0,
            soc: 1.0,
            battery_temp: 0.0,
            volt: 16.4,
            amp: 0.0,
            throttle: 0.0,
            vibration: [0.0; 3],
            climate: dice.range(8.0, 24.0),
            ambient: 0.0,
            wind: [4.0 * dice.gauss(), 4.0 * dice.gauss()],
            gust: [0.0; 2],
            airspeed: 0.0,
            pace: Pace::new(dt),
        };
        for part in [Component::Battery, Component::Motor(1), Component::Motor(2), Component::Motor(3), Component::Motor(4)] {
            frame.replace(part, dice);
        }
        frame.ambient = frame.climate;
        frame.cool(f64::INFINITY);
        frame
    }

    /// Home: latitude and longitude, degrees.
    pub(crate) fn home(&self) -> (f64, f64) {
        (self.lat, self.lon)
    }

    /// Share of the battery's charge that is left.
    pub(crate) fn charge(&self) -> f64 {
        self.soc
    }

    /// Puts in a new part, with its own small deviations.
    pub(crate) fn replace(&mut self, part: Component, dice: &mut Dice) {
        match part {
            Component::Battery => {
                self.resistance = dice.range(0.052, 0.068);
                self.capacity_ah = dice.range(7.0, 7.6);
            }
            Component::Motor(n) => {
                let temp = self.ambient;
                self.motors[usize::from(n) - 1] =
                    Motor { gain: 0.008 * dice.gauss(), heat: 0.05 * dice.gauss(), imbalance: dice.range(0.0, 0.25), temp, rpm: 0.0 };
            }
            Component::Esc => {}
        }
    }

    /// Prepares the next flight: a charged battery, parts cooled for `rest_s` seconds, the weather of that hour.
    pub(crate) fn prepare(&mut self, now: i64, rest_s: f64, dice: &mut Dice) {
        let hour = (now.rem_euclid(86_400_000)) as f64 / 3_600_000.0;
        // Warmest at 15 h local time, which is 6 h UTC.
        let day = 5.0 * libm::cos((hour - 6.0) * (core::f64::consts::TAU / 24.0));
        self.ambient = self.climate + day + dice.gauss();
        self.cool(rest_s);
        self.soc = dice.range(0.95, 1.0);
        self.motion = Motion::default();
    }

    fn cool(&mut self, rest_s: f64) {
        let (motors, battery) = (share(rest_s, 240.0), share(rest_s, 900.0));
        for motor in &mut self.motors {
            motor.temp += motors * (self.ambient - motor.temp);
        }
        self.battery_temp += battery * (self.ambient + 1.5 - self.battery_temp);
    }

    /// One step of flight; true when the drone has landed.
    pub(crate) fn step(&mut self, now: i64, flight: &mut Flight, symptom: Symptom, dice: &mut Dice) -> bool {
        let landed = flight.fly(now, self.pace.dt, &mut self.motion, dice);
        self.blow(dice);
        self.thrust(flight, dice);
        self.spin(flight, symptom, dice);
        self.drain(symptom, dice);
        self.shake(flight, symptom, dice);
        landed
    }

    fn blow(&mut self, dice: &mut Dice) {
        let pace = self.pace;
        let strength = (self.wind[0] * self.wind[0] + self.wind[1] * self.wind[1]).sqrt();
        for axis in 0..2 {
            self.wind[axis] += -pace.wind * self.wind[axis] + pace.wind_kick * 3.5 * dice.gauss();
            let kick = pace.gust_kick * (0.4 + 0.25 * strength) * dice.gauss();
            self.gust[axis] += -pace.gust * self.gust[axis] + kick;
        }
        let east = self.motion.v_east - self.wind[0] - self.gust[0];
        let north = self.motion.v_north - self.wind[1] - self.gust[1];
        self.airspeed = (east * east + north * north).sqrt();
    }

    /// What weight, climb, drag and gusts ask for, and the weaker the battery, the more of its voltage.
    fn thrust(&mut self, flight: &Flight, dice: &mut Dice) {
        let drag = self.airspeed.min(20.0);
        let lift = 0.40 + 0.13 * flight.payload + 0.035 * self.motion.climb.max(-1.5);
        let gusts = 0.012 * (self.gust[0] + self.gust[1]) + 0.006 * dice.gauss();
        let sag = 15.3 / self.volt.max(10.0);
        self.throttle = ((lift + 0.000_55 * drag * drag + gusts) * sag).clamp(0.12, 0.98);
    }

    fn spin(&mut self, flight: &Flight, symptom: Symptom, dice: &mut Dice) {
        let level = self.throttle * (self.volt.max(10.0) / 15.3);
        let base = 8450.0 * level.sqrt();
        let cooling = 1.0 - 0.014 * self.airspeed.min(18.0);
        let mut amp = 0.75;
        for (i, motor) in self.motors.iter_mut().enumerate() {
            let effect = Effect::of(symptom, i, dice);
            let waver = 0.006 * dice.gauss();
            motor.rpm = base * (1.0 + motor.gain + 0.5 * flight.trim[i] + waver + effect.speed);
            let turn = motor.rpm / NOMINAL_RPM;
            let load = turn * turn * turn * (1.0 + effect.drag);
            amp += MOTOR_AMP * load;
            let rise = 34.0 * load * cooling * (1.0 + motor.heat) + effect.heat;
            motor.temp += self.pace.motor * (self.ambient + rise - motor.temp);
        }
        self.amp = amp;
    }

    fn drain(&mut self, symptom: Symptom, dice: &mut Dice) {
        let cell = symptom.part(FaultKind::Cell);
        self.amp *= 1.0 + 0.05 * symptom.part(FaultKind::SpeedController) * dice.gauss();
        self.soc = (self.soc - self.amp * self.pace.dt / (3600.0 * self.capacity_ah)).max(0.02);
        let rest = 4.0 * (3.43 + 0.62 * self.soc + 0.07 * self.soc * self.soc);
        // A pack resists less when it is warm; a weak cell resists more and has lost some of its own voltage.
        let warm = 1.0 - 0.006 * (self.battery_temp - 25.0).clamp(-20.0, 25.0);
        let resistance = self.resistance * warm * (1.0 + 1.1 * cell);
        self.volt = rest - 0.18 * cell - self.amp * resistance;
        let heat = 0.95 * self.amp * self.amp * resistance + 4.0 * cell;
        self.battery_temp += self.pace.battery * (self.ambient + 1.5 + heat - self.battery_temp);
    }

    fn shake(&mut self, flight: &Flight, symptom: Symptom, dice: &mut Dice) {
        let mut sideways = 0.0;
        for motor in &self.motors {
            let turn = motor.rpm / NOMINAL_RPM;
            sideways += (0.12 + 0.5 * motor.imbalance) * turn * turn;
        }
        let gust = self.gust[0].abs() + self.gust[1].abs();
        let ground = if self.motion.alt < 5.0 { 1.5 } else { 1.0 };
        let air = ground * (1.0 + 0.25 * flight.payload) * (0.055 + 0.005 * self.airspeed + 0.012 * gust);
        let turn = self.motors[symptom.motor].rpm / NOMINAL_RPM;
        let prop = 0.24 * symptom.part(FaultKind::Propeller) * turn * turn;
        let bearing = 0.15 * symptom.part(FaultKind::Bearing) * turn;
        let means = [
            air + 0.10 * sideways + prop + 0.45 * bearing,
            1.1 * air + 0.10 * sideways + 0.85 * prop + 0.45 * bearing,
            2.0 * air + 0.16 * sideways + 0.35 * prop + 1.5 * bearing,
        ];
        for (axis, mean) in means.into_iter().enumerate() {
            self.vibration[axis] = mean * (1.0 + 0.11 * dice.gauss());
        }
    }

    /// What the sensors say, with their noise scaled by `noise`.
    pub(crate) fn sense(&self, noise: f64, dice: &mut Dice) -> [f64; SIGNALS] {
        let mut out = [0.0; SIGNALS];
        out[at::VOLT] = self.volt + noise * 0.02 * dice.gauss();
        out[at::AMP] = (self.amp + noise * 0.2 * dice.gauss()).max(0.0);
        out[at::BATTERY_TEMP] = self.battery_temp + noise * 0.15 * dice.gauss();
        out[at::SOC] = (self.soc + noise * 0.002 * dice.gauss()).clamp(0.0, 1.0);
        for (i, motor) in self.motors.iter().enumerate() {
            out[at::MOTOR + 2 * i] = motor.temp + noise * 0.5 * dice.gauss();
            out[at::MOTOR + 2 * i + 1] = (motor.rpm + noise * 14.0 * dice.gauss()).max(0.0);
        }
        for axis in 0..3 {
            out[at::VIBRATION + axis] = (self.vibration[axis] + noise * 0.006 * dice.gauss()).max(0.0);
        }
        out[at::THROTTLE] = (self.throttle + noise * 0.002 * dice.gauss()).clamp(0.0, 1.0);
        out[at::AIRSPEED] = (self.airspeed + noise * 0.25 * dice.gauss()).max(0.0);
        let metre = noise * 0.6;
        out[at::LAT] = self.lat + (self.motion.north + metre * dice.gauss()) / METRES_PER_DEGREE;
        out[at::LON] = self.lon + (self.motion.east + metre * dice.gauss()) * self.lon_per_m;
        out[at::ALT] = self.motion.alt + noise * 0.25 * dice.gauss();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means of all signals over minutes 4–10 of one flight whose fault shows with `severity` throughout.
    fn means(kind: FaultKind, severity: f64) -> [f64; SIGNALS] {
        let mut dice = Dice::new(11, 0);
        let mut frame = Airframe::new(1.0, &mut dice);
        frame.prepare(0, 600.0, &mut dice);
        let mut flight = Flight::plan(0, &mut dice);
        let symptom = Symptom { kind, motor: 2, severity };
        let mut sums = [0.0; SIGNALS];
        for second in 0..600 {
            assert!(!frame.step(second * 1000, &mut flight, symptom, &mut dice));
            if second >= 240 {
                let values = frame.sense(0.0, &mut dice);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / 360.0);
            }
        }
        sums
    }

    #[test]
    fn a_healthy_drone_is_within_its_plausible_ranges() {
        let m = means(FaultKind::Bearing, 0.0);
        for (signal, low, high) in [
            (at::VOLT, 14.0, 16.5),
            (at::AMP, 6.0, 22.0),
            (at::SOC, 0.4, 1.0),
            (at::MOTOR, 30.0, 90.0),
            (at::MOTOR + 1, 4500.0, 7500.0),
            (at::THROTTLE, 0.3, 0.8),
        ] {
            assert!((low..high).contains(&m[signal]), "signal {signal}: {}", m[signal]);
        }
    }

    #[test]
    fn each_fault_shows_where_it_should() {
        let healthy = means(FaultKind::Bearing, 0.0);
        let change = |kind, signal: usize| means(kind, 1.0)[signal] - healthy[signal];
        let motor_3 = at::MOTOR + 4;
        assert!(change(FaultKind::Bearing, motor_3) > 10.0);
        assert!(change(FaultKind::Bearing, at::VIBRATION + 2) > 0.1);
        assert!(change(FaultKind::Propeller, motor_3 + 1) > 150.0);
        assert!(change(FaultKind::Propeller, at::VIBRATION) > 0.15);
        assert!(change(FaultKind::Cell, at::VOLT) < -0.5);
        assert!(change(FaultKind::Cell, at::BATTERY_TEMP) > 3.0);
        assert!(change(FaultKind::SpeedController, motor_3) > 8.0);
    }
}
