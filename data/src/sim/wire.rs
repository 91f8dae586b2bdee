//! The reading as JSON: fixed decimals written through whole numbers, so that it is quick and the same everywhere.

/// Number of signals in a reading.
pub(crate) const SIGNALS: usize = 20;

/// A value that is `null` on the wire.
pub(crate) const NULL: i64 = i64::MIN;

/// The signals' places in a reading's array.
pub(crate) mod at {
    pub(crate) const VOLT: usize = 0;
    pub(crate) const AMP: usize = 1;
    pub(crate) const BATTERY_TEMP: usize = 2;
    pub(crate) const SOC: usize = 3;
    /// Temperature of the first motor; its rpm follows, then the next motor.
    pub(crate) const MOTOR: usize = 4;
    pub(crate) const VIBRATION: usize = 12;
    pub(crate) const THROTTLE: usize = 15;
    pub(crate) const AIRSPEED: usize = 16;
    pub(crate) const LAT: usize = 17;
    pub(crate) const LON: usize = 18;
    pub(crate) const ALT: usize = 19;
}

/// The text before each signal's value, and its decimals.
const FIELDS: [(&str, u32); SIGNALS] = [
    (",\"battery\":{\"v\":", 2),
    (",\"a\":", 2),
    (",\"temp\":", 1),
    (",\"soc\":", 3),
    ("},\"motor\":[{\"temp\":", 1),
    (",\"rpm\":", 0),
    ("},{\"temp\":", 1),
    (",\"rpm\":", 0),
    ("},{\"temp\":", 1),
    (",\"rpm\":", 0),
    ("},{\"temp\":", 1),
    (",\"rpm\":", 0),
    ("}],\"vibration\":{\"x\":", 3),
    (",\"y\":", 3),
    (",\"z\":", 3),
    ("},\"throttle\":", 3),
    (",\"airspeed\":", 2),
    (",\"position\":{\"lat\":", 7),
    (",\"lon\":", 7),
    (",\"alt\":", 2),
];

/// Rounds each value to the decimals it has on the wire, as a whole number of its last decimal.
pub(crate) fn quantise(values: &[f64; SIGNALS]) -> [i64; SIGNALS] {
    let mut whole = [0; SIGNALS];
    for (slot, (value, (_, decimals))) in whole.iter_mut().zip(values.iter().zip(FIELDS)) {
        *slot = scaled(*value, decimals);
    }
    whole
}

/// Writes a reading over `out`.
pub(crate) fn write_reading(ts: i64, values: &[i64; SIGNALS], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"{\"ts\":");
    push_fixed(ts, 0, out);
    for (value, (before, decimals)) in values.iter().zip(FIELDS) {
        out.extend_from_slice(before.as_bytes());
        push_fixed(*value, decimals, out);
    }
    out.extend_from_slice(b"}}");
}

/// Appends `value` rounded to `decimals`.
pub(crate) fn push_decimal(value: f64, decimals: u32, out: &mut Vec<u8>) {
    push_fixed(scaled(value, decimals), decimals, out);
}

fn scaled(value: f64, decimals: u32) -> i64 {
    const POWERS: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    let x = value * POWERS[decimals as usize];
    // Half away from zero; `as` cuts towards zero.
    if x < 0.0 { (x - 0.5) as i64 } else { (x + 0.5) as i64 }
}

/// Appends the whole number `value` of last decimals with its point, without trailing noughts being cut: a sensor's
/// resolution is constant.
fn push_fixed(value: i64, decimals: u32, out: &mut Vec<u8>) {
    if value == NULL {
        return out.extend_from_slice(b"null");
    }
    let mut digits = [0_u8; 24];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    let mut written = 0;
    while rest > 0 || written <= decimals {
        if written == decimals && decimals > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        written += 1;
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_fixed() {
        for (value, decimals, text) in [
            (0.0, 0, "0"),
            (0.0, 2, "0.00"),
            (15.125, 2, "15.13"),
            (-0.004, 2, "0.00"),
            (-0.26, 1, "-0.3"),
            (6120.4, 0, "6120"),
            (0.07, 3, "0.070"),
            (127.027_612_3, 7, "127.0276123"),
            (10.0, 1, "10.0"),
        ] {
            let mut out = Vec::new();
            push_decimal(value, decimals, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_reading_is_json_of_the_documented_shape() {
        let mut values = [0.0; SIGNALS];
        for (i, value) in values.iter_mut().enumerate() {
            *value = i as f64;
        }
        let mut whole = quantise(&values);
        whole[at::SOC] = NULL;
        let mut out = Vec::new();
        write_reading(1_764_000_000_123, &whole, &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "ts": 1_764_000_000_123_i64,
            "battery": {"v": 0.0, "a": 1.0, "temp": 2.0, "soc": null},
            "motor": [{"temp": 4.0, "rpm": 5}, {"temp": 6.0, "rpm": 7}, {"temp": 8.0, "rpm": 9}, {"temp": 10.0, "rpm": 11}],
            "vibration": {"x": 12.0, "y": 13.0, "z": 14.0}, "throttle": 15.0, "airspeed": 16.0,
            "position": {"lat": 17.0, "lon": 18.0, "alt": 19.0},
        });
        assert_eq!(json, expected);
    }
}
