//! Holds a message against its shape, in one pass and without a tree in memory.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use super::{Object, Pattern, Range, Shape, Text};
use crate::model::DeadReason;

/// The most characters of a text that is not as it should be that are told.
const MOST_TOLD: usize = 80;

/// Holds `payload` against `shape`.
///
/// # Errors
/// The reason for which the message becomes a dead letter: the field, what was found, and what would be right.
pub(in crate::model) fn check(shape: &Shape, payload: &[u8]) -> Result<(), (DeadReason, String)> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_slice(payload);
    let seed = Seed {
        shape,
        fault: &mut fault,
    };
    let ended = seed.deserialize(&mut json).and_then(|()| json.end());
    match (ended, fault) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(fault)) => Err((fault.reason, fault.to_string())),
        (Err(error), None) => Err((DeadReason::Malformed, error.to_string())),
    }
}

/// The longest word of a later version, in bytes.
const LONGEST_WORD: usize = 64;

/// What is wrong, and where.
struct Fault {
    reason: DeadReason,
    /// The steps that lead there, the last one first.
    place: Vec<Step>,
    told: String,
}

enum Step {
    Field(String),
    Item(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str("the message")?;
        }
        for (n, step) in self.place.iter().rev().enumerate() {
            match step {
                Step::Field(name) if n == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(n) => write!(f, "[{n}]")?,
            }
        }
        f.write_str(&self.told)
    }
}

/// A value that is held against its shape. serde's error carries no more than that there is one: what it is, is in `fault`.
struct Seed<'a> {
    shape: &'a Shape,
    fault: &'a mut Option<Fault>,
}

impl Seed<'_> {
    fn fail<T, E: de::Error>(self, reason: DeadReason, told: String) -> Result<T, E> {
        *self.fault = Some(Fault {
            reason,
            place: Vec::new(),
            told,
        });
        Err(E::custom("it is not as the schema says"))
    }

    /// A field is wrong as such, whatever its value.
    fn fail_at<T, E: de::Error>(self, name: &str, told: &str) -> Result<T, E> {
        *self.fault = Some(Fault {
            reason: DeadReason::Malformed,
            place: vec![Step::Field(name.to_owned())],
            told: told.to_owned(),
        });
        Err(E::custom("a field is not as the schema says"))
    }

    /// Another kind of value is there.
    fn refuse_kind<E: de::Error>(self, found: &str) -> Result<(), E> {
        let expected = match self.shape {
            Shape::Anything => return Ok(()),
            Shape::Flag => "true or false",
            Shape::Number(_) => "a number",
            Shape::Text(_) => "a text",
            Shape::List(_) => "a list",
            Shape::Object(_) => "an object",
        };
        let told = format!(" is {found}; expected {expected}");
        self.fail(DeadReason::Malformed, told)
    }

    fn number<E: de::Error>(self, value: f64, shown: &dyn fmt::Display) -> Result<(), E> {
        let Shape::Number(range) = self.shape else {
            return self.refuse_kind("a number");
        };
        match range.refusal(value, shown) {
            None => Ok(()),
            Some((reason, told)) => self.fail(reason, told),
        }
    }
}

/// Notes where a fault is while the way leads back from it.
fn from<T, E>(step: Step, fault: &mut Option<Fault>, ended: Result<T, E>) -> Result<T, E> {
    if let (Err(_), Some(fault)) = (&ended, fault) {
        fault.place.push(step);
    }
    ended
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the schema of the message allows")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.refuse_kind("null")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.shape {
            Shape::Flag => Ok(()),
            _ => self.refuse_kind(&value.to_string()),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.number(value as f64, &value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.number(value as f64, &value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.number(value, &format_args!("{value:?}"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let Shape::Text(text) = self.shape else {
            return self.refuse_kind("a text");
        };
        match text.refusal(value) {
            None => Ok(()),
            Some((reason, told)) => self.fail(reason, told),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (fewest, most, item) = match self.shape {
            Shape::Anything => (0, None, self.shape),
            Shape::List(list) => (list.fewest, list.most, &*list.item),
            _ => return self.refuse_kind("a list"),
        };
        let mut count = 0;
        loop {
            let seed = Seed {
                shape: item,
                fault: &mut *self.fault,
            };
            let next = items.next_element_seed(seed);
            if from(Step::Item(count), self.fault, next)?.is_none() {
                break;
            }
            count += 1;
            if let Some(most) = most.filter(|most| count > *most) {
                return self.fail(
                    DeadReason::DoesNotFit,
                    format!(" has more than {most} entries"),
                );
            }
        }
        if count < fewest {
            let told = format!(" has {count} entries, at least {fewest} are expected");
            return self.fail(DeadReason::DoesNotFit, told);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let object = match self.shape {
            Shape::Object(object) => Some(object),
            Shape::Anything => None,
            _ => return self.refuse_kind("an object"),
        };
        let (mut seen, mut count) = (0_u64, 0);
        while let Some(key) = entries.next_key_seed(Name(object, &mut *self.fault))? {
            let shape = match (&key, object) {
                (Key::Listed(n), Some(object)) => &object.fields[*n].shape,
                (_, Some(object)) => object.others.as_deref().unwrap_or(&Shape::Anything),
                (_, None) => &Shape::Anything,
            };
            let seed = Seed {
                shape,
                fault: &mut *self.fault,
            };
            if let Err(error) = entries.next_value_seed(seed) {
                let name = match (key, object) {
                    (Key::Listed(n), Some(object)) => object.fields[n].name.clone(),
                    (Key::Other(name), _) => name,
                    _ => String::new(),
                };
                return from(Step::Field(name), self.fault, Err(error));
            }
            count += 1;
            if let (Key::Listed(n), Some(object)) = (key, object) {
                if seen & (1 << n) != 0 {
                    // Which of both counts, each reader would decide for itself.
                    return self.fail_at(&object.fields[n].name, " stands twice");
                }
                seen |= 1 << n;
            }
            if let Some(most) = object
                .and_then(|object| object.most)
                .filter(|it| count > *it)
            {
                let told = format!(" has more than {most} entries");
                return self.fail(DeadReason::DoesNotFit, told);
            }
        }
        match object.map(|object| (object, object.required & !seen)) {
            Some((object, absent)) if absent != 0 => {
                let name = &object.fields[absent.trailing_zeros() as usize].name;
                self.fail_at(name, " is missing")
            }
            _ => Ok(()),
        }
    }
}

/// The name of an entry of an object.
struct Name<'a>(Option<&'a Object>, &'a mut Option<Fault>);

enum Key {
    /// One of the fields that are described, by its number.
    Listed(usize),
    /// Another one, where the values of such are described.
    Other(String),
    /// One that is passed over.
    Unknown,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
        let Some(object) = self.0 else {
            return Ok(Key::Unknown);
        };
        if let Some(n) = object.by_name.get(name) {
            return Ok(Key::Listed(*n));
        }
        if let Some((reason, told)) = object.names.as_ref().and_then(|text| text.refusal(name)) {
            *self.1 = Some(Fault {
                reason,
                place: Vec::new(),
                told: format!(": a name{told}"),
            });
            return Err(E::custom("a name is not as the schema says"));
        }
        Ok(match object.others {
            Some(_) => Key::Other(name.to_owned()),
            None => Key::Unknown,
        })
    }
}

impl Range {
    fn refusal(&self, value: f64, shown: &dyn fmt::Display) -> Option<(DeadReason, String)> {
        let Range { least, most, whole } = self;
        if *whole && value.fract() != 0.0 {
            let told = format!(" is {shown}; expected a whole number");
            return Some((DeadReason::Malformed, told));
        }
        let side = |outside: bool, open: bool, words: [&'static str; 2], bound: f64| {
            let word = if open { words[1] } else { words[0] };
            outside.then(|| format!(" is {shown}, {word} {bound} is stored"))
        };
        let below = value < least.value || least.open && value == least.value;
        let above = value > most.value || most.open && value == most.value;
        side(below, least.open, ["at least", "more than"], least.value)
            .or_else(|| side(above, most.open, ["at most", "less than"], most.value))
            .map(|told| (DeadReason::DoesNotFit, told))
    }
}

impl Text {
    fn refusal(&self, text: &str) -> Option<(DeadReason, String)> {
        if let Some(words) = &self.words {
            // A later version may have more words. Those on which a row rests, the decoder asks for itself.
            let is_word = words.iter().any(|word| word == text) || text.len() <= LONGEST_WORD;
            return (!is_word).then(|| {
                let told = format!(" is {}, no word of the schema", excerpt(text));
                (DeadReason::DoesNotFit, told)
            });
        }
        self.misfit(text).map(|told| (DeadReason::DoesNotFit, told))
    }

    fn misfit(&self, text: &str) -> Option<String> {
        // A text has at least as many bytes as characters, and at most four times as many.
        if let Some(longest) = self.longest.filter(|longest| text.len() > *longest) {
            let count = text.chars().count();
            if count > longest {
                return Some(format!(
                    " has {count} characters, at most {longest} are stored"
                ));
            }
        }
        let is_short = text.len() < self.shortest.saturating_mul(4);
        if is_short && text.chars().count() < self.shortest {
            let (count, shortest) = (text.chars().count(), self.shortest);
            return Some(format!(
                " has {count} characters, at least {shortest} are expected"
            ));
        }
        match &self.pattern {
            Some(Pattern::NoNul) if text.contains('\0') => {
                Some(" holds a NUL character, which PostgreSQL can't store".to_owned())
            }
            Some(Pattern::Regex(regex)) if !regex.is_match(text) => Some(format!(
                " is {}; the schema of the message allows {}",
                excerpt(text),
                regex.as_str()
            )),
            _ => None,
        }
    }
}

/// The beginning of a text, in quotes.
fn excerpt(text: &str) -> String {
    let more = if text.chars().nth(MOST_TOLD).is_some() {
        "…"
    } else {
        ""
    };
    let beginning: String = text.chars().take(MOST_TOLD).collect();
    format!("{beginning:?}{more}")
}
