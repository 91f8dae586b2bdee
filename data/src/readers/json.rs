//! Cells of a table as JSON: a number as it is written, a blank left out, anything else as a string.

/// A payload under construction: `{"ts":…` and whatever fields follow.
pub(super) struct Payload(Vec<u8>);

impl Payload {
    /// `{"ts":ts`
    pub(super) fn at(ts: i64) -> Self {
        Payload(format!("{{\"ts\":{ts}").into_bytes())
    }

    /// `{"ts":ts,"event":code`
    pub(super) fn event(ts: i64, code: &str) -> Self {
        let mut payload = Payload::at(ts);
        payload.text("event", code);
        payload
    }

    /// Adds a cell under `name`; a blank and NaN are missing and not written.
    pub(super) fn cell(&mut self, name: &str, cell: &[u8]) {
        let cell = cell.trim_ascii();
        if cell.is_empty() || cell.eq_ignore_ascii_case(b"nan") {
            return;
        }
        self.name(name);
        push_cell(cell, &mut self.0);
    }

    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        push_string(text, &mut self.0);
    }

    /// Adds an array of cells that are numbers already.
    pub(super) fn numbers<'a>(&mut self, name: &str, cells: impl Iterator<Item = &'a [u8]>) {
        self.name(name);
        self.0.push(b'[');
        for (i, cell) in cells.enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            push_cell(cell, &mut self.0);
        }
        self.0.push(b']');
    }

    /// The finished text.
    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        self.0.push(b',');
        push_string(name, &mut self.0);
        self.0.push(b':');
    }
}

fn push_cell(cell: &[u8], out: &mut Vec<u8>) {
    if is_json_number(cell) {
        return out.extend_from_slice(cell);
    }
    if cell.eq_ignore_ascii_case(b"true") || cell.eq_ignore_ascii_case(b"false") {
        return out.extend(cell.iter().map(u8::to_ascii_lowercase));
    }
    let text = String::from_utf8_lossy(cell);
    // Numbers that JSON would write otherwise: `+1`, `.5`, `1.`, `007`.
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => out.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes()),
        _ => push_string(&text, out),
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

/// Whether `cell` is a number in JSON's own grammar, so that it can go through as it is.
pub(super) fn is_json_number(cell: &[u8]) -> bool {
    let rest = cell.strip_prefix(b"-").unwrap_or(cell);
    let (whole, rest) = digits(rest);
    if whole == 0 || (whole > 1 && cell.trim_ascii_start().strip_prefix(b"-").unwrap_or(cell)[0] == b'0') {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) if digits(rest).0 > 0 => digits(rest).1,
        Some(_) => return false,
        None => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', rest @ ..] => {
            let rest = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
            let (exponent, rest) = digits(rest);
            exponent > 0 && rest.is_empty()
        }
        _ => false,
    }
}

fn digits(text: &[u8]) -> (usize, &[u8]) {
    let n = text.iter().take_while(|b| b.is_ascii_digit()).count();
    (n, &text[n..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_json() {
        for (cell, json) in [
            ("1.50", r#"{"ts":0,"x":1.50}"#),
            ("-0.0007", r#"{"ts":0,"x":-0.0007}"#),
            ("1e-7", r#"{"ts":0,"x":1e-7}"#),
            ("0", r#"{"ts":0,"x":0}"#),
            ("3000592982016", r#"{"ts":0,"x":3000592982016}"#),
            (" 7 ", r#"{"ts":0,"x":7}"#),
            ("+1", r#"{"ts":0,"x":1.0}"#),
            (".5", r#"{"ts":0,"x":0.5}"#),
            ("1.", r#"{"ts":0,"x":1.0}"#),
            ("007", r#"{"ts":0,"x":7.0}"#),
            ("", r#"{"ts":0}"#),
            ("NaN", r#"{"ts":0}"#),
            ("True", r#"{"ts":0,"x":true}"#),
            ("inf", r#"{"ts":0,"x":"inf"}"#),
            ("a\"b", r#"{"ts":0,"x":"a\"b"}"#),
            ("0x1F", r#"{"ts":0,"x":"0x1F"}"#),
        ] {
            let mut payload = Payload::at(0);
            payload.cell("x", cell.as_bytes());
            assert_eq!(String::from_utf8(payload.done()).unwrap(), json, "{cell}");
        }
    }
}
