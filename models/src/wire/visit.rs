//! serde's visitors that carry a reading from JSON bytes into a row of values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Reading;
use super::shape::{Claimed, Slot};
use super::trie::{Claim, Trie};
use crate::time::parse_rfc3339;
use crate::{Reason, Refused};

/// The state of one parse.
pub(super) struct Parse<'a> {
    pub(super) trie: &'a Trie,
    pub(super) device: &'a str,
    pub(super) reading: &'a mut Reading,
    /// Which signals, then `ts` and `device`, have been seen.
    pub(super) seen: &'a mut [bool],
    pub(super) ts: Option<i64>,
    /// How many levels of `extra` are open.
    pub(super) open: usize,
    /// The fields from the root to here, each as node and child of the trie.
    pub(super) path: &'a mut Vec<(usize, usize)>,
    pub(super) claimed: &'a mut Claimed,
    pub(super) refused: Option<Refused>,
}

impl<'a> Parse<'a> {
    /// Refuses the reading; the serde error only unwinds the parse.
    fn refuse<E: Error>(&mut self, reason: Reason, detail: String) -> E {
        self.refused = Some(Refused::new(reason, detail));
        E::custom("refused")
    }

    fn place(&self) -> String {
        self.path.iter().fold(String::new(), |s, (node, child)| s + "/" + self.trie.token(*node, *child))
    }

    fn claim_once<E: Error>(&mut self, claim: Claim) -> Result<(), E> {
        let signals = self.reading.values.len();
        let slot = match claim {
            Claim::Signal(i) => i,
            Claim::Ts => signals,
            Claim::Device => signals + 1,
            Claim::Inside(_) => return Ok(()),
        };
        if std::mem::replace(&mut self.seen[slot], true) {
            let place = self.place();
            return Err(self.refuse(Reason::DuplicateField, format!("{place}: found twice, expected once")));
        }
        Ok(())
    }

    fn value<'de, M: MapAccess<'de>>(&mut self, map: &mut M, claim: Claim) -> Result<(), M::Error> {
        self.claim_once(claim)?;
        match claim {
            Claim::Inside(node) => map.next_value_seed(NodeSeed { parse: self, node }),
            _ => map.next_value_seed(LeafSeed { parse: self, claim }),
        }
    }

    /// Keeps an unclaimed field below the path that leads to it.
    fn keep(&mut self, key: &str, json: &str) {
        let extra = &mut self.reading.extra;
        if extra.is_empty() {
            extra.push('{');
        }
        while self.open < self.path.len() {
            let (node, child) = self.path[self.open];
            push_key(extra, self.trie.token(node, child));
            extra.push('{');
            self.open += 1;
        }
        push_key(extra, key);
        extra.push_str(json);
    }

    /// Leaves the node at depth `depth`: closes what `keep` opened for it; at the root, the whole.
    fn leave(&mut self, depth: usize) {
        while self.open > depth.saturating_sub(1) {
            self.reading.extra.push('}');
            self.open -= 1;
        }
        if depth == 0 && !self.reading.extra.is_empty() {
            self.reading.extra.push('}');
        }
    }
}

fn push_key(extra: &mut String, key: &str) {
    if !extra.ends_with('{') {
        extra.push(',');
    }
    // A string always serialises.
    extra.push_str(&serde_json::to_string(key).unwrap_or_default());
    extra.push(':');
}

/// An object or array that holds claimed fields.
pub(super) struct NodeSeed<'p, 'a> {
    pub(super) parse: &'p mut Parse<'a>,
    pub(super) node: usize,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl NodeSeed<'_, '_> {
    /// A scalar where an object or array with signals belongs.
    fn wrong<E: Error>(self, found: impl fmt::Display) -> Result<(), E> {
        let place = self.parse.place();
        Err(self.parse.refuse(Reason::NotANumber, format!("{place}: found {found}, expected an object or array with the signals in it")))
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a reading")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { parse, node } = self;
        let depth = parse.path.len();
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            match parse.trie.field(node, &key) {
                Some(child) => {
                    parse.path.push((node, child));
                    parse.value(&mut map, parse.trie.claim(node, child))?;
                    parse.path.truncate(depth);
                }
                None => parse.keep(&key, map.next_value::<&RawValue>()?.get()),
            }
        }
        parse.leave(depth);
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let Self { parse, node } = self;
        let depth = parse.path.len();
        for index in 0.. {
            let more = match parse.trie.element(node, index) {
                Some(child) => {
                    parse.path.push((node, child));
                    let claim = parse.trie.claim(node, child);
                    let more = match claim {
                        Claim::Inside(node) => seq.next_element_seed(NodeSeed { parse, node })?,
                        _ => seq.next_element_seed(LeafSeed { parse, claim })?,
                    };
                    parse.path.truncate(depth);
                    more
                }
                None => seq.next_element::<&RawValue>()?.map(|raw| parse.keep(&index.to_string(), raw.get())),
            };
            if more.is_none() {
                break;
            }
        }
        parse.leave(depth);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        self.wrong(v)
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        self.wrong(v)
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        self.wrong(v)
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.wrong(v)
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.wrong(short(v))
    }
}

/// A key, borrowed where JSON has no escapes in it.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v.to_owned())))
            }
        }
        json.deserialize_str(KeyVisitor)
    }
}

/// A claimed value: a signal's, `ts` or `device`.
struct LeafSeed<'p, 'a> {
    parse: &'p mut Parse<'a>,
    claim: Claim,
}

impl LeafSeed<'_, '_> {
    /// Notes what stood here, for shapes.
    fn claimed(&mut self, number: bool) {
        match self.claim {
            Claim::Signal(i) if number => self.parse.claimed.slots.push(Slot::Signal(i)),
            Claim::Ts if number => self.parse.claimed.slots.push(Slot::Ts),
            _ => self.parse.claimed.odd = true,
        }
    }

    fn number<E: Error>(self, value: f64) -> Result<(), E> {
        match self.claim {
            Claim::Signal(i) => self.parse.reading.values[i] = value,
            Claim::Ts if value.fract() == 0.0 && value.abs() < 9e15 => self.parse.ts = Some(value as i64),
            _ => return self.wrong(value),
        }
        Ok(())
    }

    fn wrong<E: Error>(self, found: impl fmt::Display) -> Result<(), E> {
        let place = self.parse.place();
        Err(match self.claim {
            Claim::Ts => {
                self.parse.refuse(Reason::BadTs, format!("ts: found {found}, expected integer milliseconds since 1970 UTC or RFC 3339"))
            }
            Claim::Device => {
                let topic = self.parse.device.to_owned();
                self.parse.refuse(Reason::DeviceMismatch, format!("device: found {found}, expected \"{topic}\" as in the topic"))
            }
            _ => self.parse.refuse(Reason::NotANumber, format!("{place}: found {found}, expected a number, true, false or null")),
        })
    }
}

impl<'de> DeserializeSeed<'de> for LeafSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LeafSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: Error>(mut self, v: f64) -> Result<(), E> {
        self.claimed(true);
        self.number(v)
    }

    fn visit_i64<E: Error>(mut self, v: i64) -> Result<(), E> {
        self.claimed(true);
        match self.claim {
            Claim::Ts => self.parse.ts = Some(v),
            _ => return self.number(v as f64),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, v: u64) -> Result<(), E> {
        match i64::try_from(v) {
            Ok(v) => self.visit_i64(v),
            Err(_) => {
                self.claimed(true);
                self.number(v as f64)
            }
        }
    }

    fn visit_bool<E: Error>(mut self, v: bool) -> Result<(), E> {
        self.claimed(false);
        match self.claim {
            Claim::Signal(_) => self.number(f64::from(u8::from(v))),
            _ => self.wrong(v),
        }
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.claimed(true);
        match self.claim {
            Claim::Signal(_) => Ok(()),
            _ => self.wrong("null"),
        }
    }

    fn visit_str<E: Error>(mut self, v: &str) -> Result<(), E> {
        self.claimed(false);
        match self.claim {
            Claim::Ts => match parse_rfc3339(v) {
                Some(ts) => self.parse.ts = Some(ts),
                None => return self.wrong(short(v)),
            },
            Claim::Device if v == self.parse.device => (),
            _ => return self.wrong(short(v)),
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.wrong("an object")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.wrong("an array")
    }
}

fn short(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}
