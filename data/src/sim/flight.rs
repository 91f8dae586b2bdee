//! One flight: where the drone wants to go. Take-off, climb, legs between waypoints, hovering, the way home, landing.

use super::rng::Dice;

/// Where a drone is and how it moves, metres from home and metres a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Motion {
    pub(crate) east: f64,
    pub(crate) north: f64,
    pub(crate) alt: f64,
    pub(crate) v_east: f64,
    pub(crate) v_north: f64,
    pub(crate) climb: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Climb,
    Leg { east: f64, north: f64, speed: f64 },
    Hover { until: i64 },
    Home,
    Land,
}

/// A flight's plan and how far it has come.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    phase: Phase,
    /// When the way home begins if nothing else sends it there.
    turn_ms: i64,
    height: f64,
    /// Payload, share of the greatest.
    pub(crate) payload: f64,
    /// How the payload's weight lies on the four motors: shares of thrust, sum 0.
    pub(crate) trim: [f64; 4],
}

/// Speed on the way home, m/s.
const HOME_SPEED: f64 = 11.0;

impl Flight {
    /// Plans a flight that takes off at `now`.
    pub(crate) fn plan(now: i64, dice: &mut Dice) -> Self {
        let (pitch, roll) = (dice.range(-0.02, 0.02), dice.range(-0.02, 0.02));
        Flight {
            phase: Phase::Climb,
            // With the climb within and the way home after it, a flight takes 15–20 minutes.
            turn_ms: now + dice.seconds(800.0, 1100.0),
            height: dice.range(50.0, 115.0),
            payload: dice.unit(),
            trim: [pitch + roll, pitch - roll, -pitch - roll, roll - pitch],
        }
    }

    /// Breaks the plan off: straight home.
    pub(crate) fn turn_home(&mut self) {
        if self.phase != Phase::Land {
            self.phase = Phase::Home;
        }
    }

    /// Sets the motion for the `dt` seconds from `now` and moves. True when the drone has landed.
    pub(crate) fn fly(&mut self, now: i64, dt: f64, motion: &mut Motion, dice: &mut Dice) -> bool {
        if now >= self.turn_ms && matches!(self.phase, Phase::Leg { .. } | Phase::Hover { .. }) {
            self.phase = Phase::Home;
        }
        match self.phase {
            Phase::Climb => self.climb(now, dt, motion, dice),
            Phase::Leg { east, north, speed } => {
                motion.climb = 0.0;
                if motion.head_for(east, north, speed, dt) {
                    self.next_stretch(now, dice);
                }
            }
            Phase::Hover { until } => {
                motion.hold();
                if now >= until {
                    self.next_leg(dice);
                }
            }
            Phase::Home => {
                motion.climb = 0.0;
                if motion.head_for(0.0, 0.0, HOME_SPEED, dt) {
                    self.phase = Phase::Land;
                }
            }
            Phase::Land => {
                motion.hold();
                // Slower near the ground.
                motion.climb = if motion.alt > 12.0 { -2.8 } else { -1.0 };
            }
        }
        motion.advance(dt);
        self.phase == Phase::Land && motion.alt <= 0.0
    }

    fn climb(&mut self, now: i64, dt: f64, motion: &mut Motion, dice: &mut Dice) {
        motion.hold();
        // Take-off is gentle up to five metres.
        motion.climb = if motion.alt < 5.0 { 1.2 } else { 3.2 };
        if motion.alt + motion.climb * dt >= self.height {
            motion.climb = (self.height - motion.alt) / dt;
            self.next_stretch(now, dice);
        }
    }

    fn next_stretch(&mut self, now: i64, dice: &mut Dice) {
        if dice.chance(0.3) {
            self.phase = Phase::Hover { until: now + dice.seconds(15.0, 75.0) };
        } else {
            self.next_leg(dice);
        }
    }

    fn next_leg(&mut self, dice: &mut Dice) {
        let (east, north) = (dice.range(-500.0, 500.0), dice.range(-500.0, 500.0));
        self.phase = Phase::Leg { east, north, speed: dice.range(5.0, 13.0) };
    }
}

impl Motion {
    fn hold(&mut self) {
        self.v_east = 0.0;
        self.v_north = 0.0;
        self.climb = 0.0;
    }

    /// Turns towards a point at `speed`; true when the step of `dt` reaches it.
    fn head_for(&mut self, east: f64, north: f64, speed: f64, dt: f64) -> bool {
        let (d_east, d_north) = (east - self.east, north - self.north);
        let distance = (d_east * d_east + d_north * d_north).sqrt();
        let reached = distance <= speed * dt;
        let speed = if reached { distance / dt } else { speed };
        let scale = if distance > 0.0 { speed / distance } else { 0.0 };
        self.v_east = d_east * scale;
        self.v_north = d_north * scale;
        reached
    }

    fn advance(&mut self, dt: f64) {
        self.east += self.v_east * dt;
        self.north += self.v_north * dt;
        self.alt = (self.alt + self.climb * dt).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn land(flight: &mut Flight, motion: &mut Motion, mut now: i64, dice: &mut Dice) -> i64 {
        while !flight.fly(now, 1.0, motion, dice) {
            now += 1000;
            assert!(now < 3_600_000, "still in the air after an hour");
        }
        now
    }

    #[test]
    fn flights_last_14_to_21_minutes_and_end_at_home() {
        for seed in 0..50 {
            let mut dice = Dice::new(seed, 0);
            let (mut flight, mut motion) = (Flight::plan(0, &mut dice), Motion::default());
            let minutes = land(&mut flight, &mut motion, 0, &mut dice) / 60_000;
            assert!((14..=21).contains(&minutes), "{minutes}");
            assert!(motion.east.abs() + motion.north.abs() < 1.0 && motion.alt == 0.0);
        }
    }

    #[test]
    fn a_flight_that_is_broken_off_lands_within_three_minutes() {
        let mut dice = Dice::new(8, 0);
        let (mut flight, mut motion) = (Flight::plan(0, &mut dice), Motion::default());
        for second in 0..400 {
            assert!(!flight.fly(second * 1000, 1.0, &mut motion, &mut dice));
        }
        flight.turn_home();
        assert!(land(&mut flight, &mut motion, 400_000, &mut dice) < 580_000);
    }
}
