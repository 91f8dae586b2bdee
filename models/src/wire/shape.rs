//! Shapes: devices send the same fields in the same order, again and again. What lay between the numbers of a payload, byte for byte, is
//! remembered; a payload that has the very same bytes there needs no JSON parser, only its numbers read.
//!
//! It never decides what a payload means: a shape is learnt from a payload that the parser took, with every number or null in it claimed by
//! a signal or by `ts`, and whatever differs from it in the least goes to the parser.

/// Shapes remembered: fleets have few firmwares.
const SHAPES: usize = 4;
/// After that many payloads in a row that no shape fitted, only every n-th is learnt from.
const PATIENCE: u32 = 64;

/// What a number belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The signal with this index.
    Signal(usize),
    /// The reading's time.
    Ts,
}

/// What the parser claimed, in the order of the payload.
#[derive(Debug, Clone, Default)]
pub(super) struct Claimed {
    pub(super) slots: Vec<Slot>,
    /// Whether a claimed value was something else than a number or null, or the device's name was there: no shape then.
    pub(super) odd: bool,
}

impl Claimed {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.odd = false;
    }
}

/// The bytes before each number, the number's slot, and the bytes after the last.
#[derive(Debug, Clone)]
struct Shape {
    parts: Vec<(Box<[u8]>, Slot)>,
    end: Box<[u8]>,
    extra: String,
}

/// The shapes seen, the newest fit first.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    misses: u32,
}

impl Shapes {
    /// Reads `payload` if it has a known shape: values (all NaN before) and extra are filled. Its `ts`, or `None` for the parser to look.
    #[inline]
    pub(super) fn read(&mut self, payload: &[u8], values: &mut [f64], extra: &mut String) -> Option<i64> {
        for at in 0..self.shapes.len() {
            if let Some(ts) = self.shapes[at].read(payload, values) {
                extra.push_str(&self.shapes[at].extra);
                self.shapes.swap(0, at);
                self.misses = 0;
                return Some(ts);
            }
            // What fitted until it did not has left its values.
            values.fill(f64::NAN);
        }
        None
    }

    /// Learns from a payload that the parser took.
    pub(super) fn learn(&mut self, payload: &[u8], claimed: &Claimed, extra: &str) {
        self.misses = self.misses.saturating_add(1);
        if claimed.odd || (self.misses > PATIENCE && !self.misses.is_multiple_of(PATIENCE)) {
            return;
        }
        if let Some(shape) = Shape::of(payload, &claimed.slots, extra) {
            self.shapes.truncate(SHAPES - 1);
            self.shapes.insert(0, shape);
        }
    }
}

impl Shape {
    /// The shape of `payload`, valid JSON; `None` if it holds a number or null that no slot claims.
    fn of(payload: &[u8], slots: &[Slot], extra: &str) -> Option<Self> {
        let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
        while at < payload.len() {
            match payload[at] {
                b'"' => at = after_text(payload, at),
                b'-' | b'0'..=b'9' | b'n' => {
                    parts.push((payload[from..at].into(), *slots.get(parts.len())?));
                    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                    at += payload[at..].iter().take_while(|b| inside(b)).count();
                    from = at;
                }
                // true and false hold no slot, and none of the bytes above begins inside them.
                b't' | b'f' => at += payload[at..].iter().take_while(|b| b.is_ascii_lowercase()).count(),
                _ => at += 1,
            }
        }
        let whole = parts.len() == slots.len() && slots.contains(&Slot::Ts);
        whole.then(|| Self { parts, end: payload[from..].into(), extra: extra.to_owned() })
    }

    #[inline]
    fn read(&self, payload: &[u8], values: &mut [f64]) -> Option<i64> {
        let (mut rest, mut ts) = (payload, None);
        for (literal, slot) in &self.parts {
            rest = rest.strip_prefix(&literal[..])?;
            match slot {
                Slot::Signal(i) => (values[*i], rest) = number(rest)?,
                Slot::Ts => {
                    let (found, after) = integer(rest)?;
                    (ts, rest) = (Some(found), after);
                }
            }
        }
        ts.filter(|_| *rest == *self.end)
    }
}

/// Where the text that begins at `at` ends.
fn after_text(payload: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < payload.len() && payload[at] != b'"' {
        at += if payload[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A JSON integer without sign that fits an i64, and the rest.
#[inline]
fn integer(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let digits = bytes.iter().take(19).take_while(|b| b.is_ascii_digit()).count();
    let leading_zero = digits > 1 && bytes[0] == b'0';
    if digits == 0 || digits > 18 || leading_zero || matches!(bytes.get(digits), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    let value = bytes[..digits].iter().fold(0, |v, b| v * 10 + i64::from(b - b'0'));
    Some((value, &bytes[digits..]))
}

/// Powers of ten that an f64 holds exactly.
const TENS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// A JSON number, or NaN for null, and the rest; `None` for anything else or what an f64 cannot hold.
#[inline]
fn number(bytes: &[u8]) -> Option<(f64, &[u8])> {
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(negative);
    let (mut mantissa, mut at) = (0u64, start);
    while let Some(digit) = digit(bytes, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let whole = at - start;
    if whole == 0 {
        return Some((f64::NAN, bytes.strip_prefix(b"null")?));
    }
    if whole > 1 && bytes[start] == b'0' {
        return None;
    }
    let mut decimals = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let first = at;
        while let Some(digit) = digit(bytes, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        decimals = at - first;
        if decimals == 0 {
            return None;
        }
    }
    let plain = !matches!(bytes.get(at), Some(b'e' | b'E'));
    if plain && whole + decimals <= 19 && mantissa <= 1 << 53 {
        // Both are exact, so that the one rounding of the division is the right one (Clinger, "How to Read Floating Point Numbers
        // Accurately", 1990).
        let value = mantissa as f64 / TENS[decimals];
        return Some((if negative { -value } else { value }, &bytes[at..]));
    }
    long_number(bytes, at)
}

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at).map(|b| u64::from(b.wrapping_sub(b'0'))).filter(|d| *d < 10)
}

/// A number with an exponent or with many digits; `at` is after its digits.
#[cold]
fn long_number(bytes: &[u8], mut at: usize) -> Option<(f64, &[u8])> {
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let first = at;
        while digit(bytes, at).is_some() {
            at += 1;
        }
        if at == first {
            return None;
        }
    }
    let value: f64 = std::str::from_utf8(&bytes[..at]).ok()?.parse().ok()?;
    value.is_finite().then_some((value, &bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library_and_nothing_else_is_one() {
        for text in [
            "0",
            "-0",
            "15.12",
            "-61.25",
            "9007199254740993",
            "0.1",
            "1e-7",
            "5E+3",
            "123456789.123456789",
            "5e-324",
            "0.30000000000000004",
        ] {
            let bytes = format!("{text},");
            let (value, rest) = number(bytes.as_bytes()).unwrap();
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
            assert_eq!(rest, b",", "{text}");
        }
        assert!(number(b"null}").unwrap().0.is_nan());
        for text in ["", "-", "01", "-01", "1.", ".5", "+1", "1e", "1e+", "nul", "true", "\"1\"", "1e999", "NaN"] {
            assert!(number(text.as_bytes()).is_none_or(|(_, rest)| !rest.is_empty()), "{text}");
        }
        assert_eq!(integer(b"1764000000123}").unwrap(), (1_764_000_000_123, &b"}"[..]));
        for text in ["01", "-1", "1.5", "1e3", "", "9999999999999999999"] {
            assert!(integer(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_shape_is_learnt_only_if_every_number_is_claimed() {
        let slots = [Slot::Ts, Slot::Signal(1)];
        let shape = Shape::of(br#"{"ts": 5, "n": "1 null 2\" 3", "v": null}"#, &slots, "x").unwrap();
        let mut values = [0.0; 2];
        assert_eq!(shape.read(br#"{"ts": 77, "n": "1 null 2\" 3", "v": -2.5}"#, &mut values), Some(77));
        assert_eq!(values[1], -2.5);
        for other in [&br#"{"ts": 77, "n": "1 null 2\" 4", "v": 1}"#[..], br#"{"ts": 77, "n": "1 null 2\" 3", "v": 1} "#, br#"{"ts": 77"#] {
            assert_eq!(shape.read(other, &mut values), None);
        }
        assert!(Shape::of(br#"{"ts": 5, "v": 1, "w": 2}"#, &slots, "").is_none());
        assert!(Shape::of(br#"{"ts": 5, "v": true}"#, &slots, "").is_none());
    }
}
