//! What goes wrong between a drone's sensors and the broker: nulls, frozen sensors, clock steps, late and double messages.

use super::config::Mess;
use super::rng::{Dice, Rare};
use super::wire::{NULL, SIGNALS};

/// What becomes of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Sent at once.
    Now,
    /// Sent at once, and the same again at this time.
    Twice(i64),
    /// Sent only at this time.
    Late(i64),
}

/// A message kept back for later; at most one a drone.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// When it is sent; `i64::MAX` when nothing is held.
    pub(crate) at: i64,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Stuck {
    signal: usize,
    value: i64,
    until: i64,
}

/// The untidiness of one drone. It has dice of its own, so that a tidy fleet flies the same flights as an untidy one.
#[derive(Debug, Clone)]
pub(crate) struct Chaos {
    dice: Dice,
    noise: f64,
    missing: Rare,
    duplicate: Rare,
    late: Rare,
    frozen: Rare,
    clock_jump: Rare,
    stuck: Option<Stuck>,
    /// The device's clock less the true time, ms.
    pub(crate) clock_offset: i64,
    pub(crate) held: Held,
}

impl Chaos {
    pub(crate) fn new(mess: &Mess, mut dice: Dice) -> Self {
        Chaos {
            noise: mess.noise,
            missing: Rare::new(mess.missing, &mut dice),
            duplicate: Rare::new(mess.duplicate, &mut dice),
            late: Rare::new(mess.late, &mut dice),
            frozen: Rare::new(mess.frozen, &mut dice),
            clock_jump: Rare::new(mess.clock_jump, &mut dice),
            stuck: None,
            clock_offset: 0,
            held: Held { at: i64::MAX, payload: Vec::new() },
            dice,
        }
    }

    /// The scale of the sensors' noise and the dice to draw it with.
    pub(crate) fn noise(&mut self) -> (f64, &mut Dice) {
        (self.noise, &mut self.dice)
    }

    /// Freezes and loses values of a reading at true time `now`, and may move the clock.
    pub(crate) fn disturb(&mut self, now: i64, values: &mut [i64; SIGNALS]) {
        self.freeze(now, values);
        for value in values.iter_mut() {
            if self.missing.hit(&mut self.dice) {
                *value = NULL;
            }
        }
        if self.clock_jump.hit(&mut self.dice) {
            self.jump();
        }
    }

    fn freeze(&mut self, now: i64, values: &mut [i64; SIGNALS]) {
        if self.frozen.hit(&mut self.dice) {
            let signal = self.dice.below(SIGNALS);
            let until = now + self.dice.seconds(30.0, 300.0);
            self.stuck = Some(Stuck { signal, value: values[signal], until });
        }
        match self.stuck {
            Some(stuck) if now < stuck.until => values[stuck.signal] = stuck.value,
            _ => self.stuck = None,
        }
    }

    /// A clock that was wrong may be set right; otherwise it steps to some other error.
    fn jump(&mut self) {
        if self.clock_offset != 0 && self.dice.chance(0.5) {
            self.clock_offset = 0;
            return;
        }
        let size = self.dice.seconds(3.0, 300.0);
        self.clock_offset = if self.dice.chance(0.5) { size } else { -size };
    }

    /// Decides when the reading of `now` is sent.
    pub(crate) fn deliver(&mut self, now: i64) -> Delivery {
        let (late, twice) = (self.late.hit(&mut self.dice), self.duplicate.hit(&mut self.dice));
        if self.held.at != i64::MAX {
            Delivery::Now
        } else if late {
            Delivery::Late(now + self.dice.seconds(2.0, 10.0))
        } else if twice {
            Delivery::Twice(now + self.dice.seconds(0.02, 0.5))
        } else {
            Delivery::Now
        }
    }
}
