//! From the text of a JSON Schema to what the decoder asks. Knows the few words that our schemas use, and refuses a schema with others:
//! a bound that is not understood must not look like one that is kept.

use regex::Regex;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Bound, Field, List, Object, Pattern, Range, Shape, Text};

/// What the decoder does not understand of a schema.
#[derive(Debug, Error)]
#[error("{place}: {what}")]
pub(super) struct NotUnderstood {
    place: String,
    what: String,
}

/// The largest whole number up to which each has a float of its own.
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// More fields of one object than a mask has bits.
const MOST_FIELDS: usize = 64;

/// Words that bound nothing by themselves. `oneOf` is in the revision's schema only, whose decoder asks for its calendar itself.
const PASSED_OVER: [&str; 8] = [
    "$schema",
    "$id",
    "$defs",
    "title",
    "description",
    "format",
    "oneOf",
    "$ref",
];

/// The pattern of texts that go into the database.
const NO_NUL: &str = r"^[^\x00]*$";

/// Reads a schema.
///
/// # Errors
/// The first place that is not understood.
pub(super) fn shape_of(schema: &str) -> Result<Shape, NotUnderstood> {
    let root: Value = serde_json::from_str(schema).map_err(|error| NotUnderstood {
        place: "the schema".to_owned(),
        what: error.to_string(),
    })?;
    Node::new(&root, &root, "#".to_owned())?.shape()
}

/// A part of a schema, with what it refers to.
struct Node<'a> {
    root: &'a Value,
    words: Map<String, Value>,
    place: String,
}

impl<'a> Node<'a> {
    fn new(root: &'a Value, value: &Value, place: String) -> Result<Self, NotUnderstood> {
        let mut node = Node {
            root,
            words: Map::new(),
            place,
        };
        node.take(value)?;
        Ok(node)
    }

    /// Takes in the words of `value` and of what it refers to; properties of both are there.
    fn take(&mut self, value: &Value) -> Result<(), NotUnderstood> {
        let Value::Object(words) = value else {
            return self.fail("no object");
        };
        if let Some(reference) = words.get("$ref") {
            let pointer = reference.as_str().and_then(|it| it.strip_prefix('#'));
            let root = self.root;
            match pointer.and_then(|pointer| root.pointer(pointer)) {
                Some(referred) => self.take(referred)?,
                None => return self.fail(&format!("nothing is at {reference}")),
            }
        }
        for (word, value) in words {
            match (self.words.get_mut(word), value) {
                (Some(Value::Object(before)), Value::Object(more)) if word == "properties" => {
                    before.extend(more.clone());
                }
                _ => drop(self.words.insert(word.clone(), value.clone())),
            }
        }
        Ok(())
    }

    fn shape(mut self) -> Result<Shape, NotUnderstood> {
        for word in PASSED_OVER {
            self.words.remove(word);
        }
        let kind = self.words.remove("type");
        let shape = match kind.as_ref().and_then(Value::as_str) {
            Some("boolean") => Shape::Flag,
            Some("integer") => Shape::Number(self.range(true)?),
            Some("number") => Shape::Number(self.range(false)?),
            Some("string") => Shape::Text(self.text()?),
            Some("array") => Shape::List(self.list()?),
            Some("object") => Shape::Object(self.object()?),
            Some(_) => return self.fail("a type that the decoder does not know"),
            None if self.words.contains_key("properties") => Shape::Object(self.object()?),
            None => self.constant()?,
        };
        match self.words.keys().next() {
            None => Ok(shape),
            Some(word) => {
                let what = format!("{word} is not understood here");
                self.fail(&what)
            }
        }
    }

    /// One value, or one of a list of words.
    fn constant(&mut self) -> Result<Shape, NotUnderstood> {
        let listed = self.words.remove("enum");
        let words = match (listed, self.words.remove("const")) {
            (Some(Value::Array(words)), None) => words,
            (None, Some(Value::Number(number))) => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                let bound = || Bound { value, open: false };
                return Ok(Shape::Number(Range {
                    least: bound(),
                    most: bound(),
                    whole: true,
                }));
            }
            (None, Some(word)) => vec![word],
            _ => return self.fail("no type"),
        };
        let words: Option<Vec<_>> = words
            .iter()
            .map(|it| it.as_str().map(str::to_owned))
            .collect();
        match words {
            Some(words) => Ok(Shape::Text(Text {
                words: Some(words),
                ..Text::default()
            })),
            None => self.fail("words that are no text"),
        }
    }

    fn range(&mut self, whole: bool) -> Result<Range, NotUnderstood> {
        Ok(Range {
            least: self.bound(["minimum", "exclusiveMinimum"])?,
            most: self.bound(["maximum", "exclusiveMaximum"])?,
            whole,
        })
    }

    /// The bound of a number. There must be one: columns have their ends.
    fn bound(&mut self, words: [&str; 2]) -> Result<Bound, NotUnderstood> {
        let [closed, open] = words.map(|word| self.words.remove(word));
        let is_open = open.is_some();
        let value = closed.or(open).and_then(|value| value.as_f64());
        match value.filter(|value| value.abs() <= LARGEST) {
            Some(value) => Ok(Bound {
                value,
                open: is_open,
            }),
            None => self.fail(&format!("no {} of at most 2^53 - 1", words[0])),
        }
    }

    fn text(&mut self) -> Result<Text, NotUnderstood> {
        let pattern = match self.words.remove("pattern") {
            None => None,
            Some(Value::String(text)) if text == NO_NUL => Some(Pattern::NoNul),
            Some(pattern) => {
                let regex = pattern.as_str().and_then(|text| Regex::new(text).ok());
                if regex.is_none() {
                    return self.fail("a pattern that is no regular expression");
                }
                regex.map(Pattern::Regex)
            }
        };
        Ok(Text {
            shortest: self.count("minLength")?.unwrap_or(0),
            longest: self.count("maxLength")?,
            pattern,
            words: None,
        })
    }

    fn list(&mut self) -> Result<List, NotUnderstood> {
        Ok(List {
            fewest: self.count("minItems")?.unwrap_or(0),
            most: self.count("maxItems")?,
            item: Box::new(self.inner("items")?.unwrap_or(Shape::Anything)),
        })
    }

    fn object(&mut self) -> Result<Object, NotUnderstood> {
        let mut object = Object {
            most: self.count("maxProperties")?,
            others: self.inner("additionalProperties")?.map(Box::new),
            ..Object::default()
        };
        match self.inner("propertyNames")? {
            None => {}
            Some(Shape::Text(names)) => object.names = Some(names),
            Some(_) => return self.fail("names that are no text"),
        }
        if let Some(Value::Object(fields)) = self.words.remove("properties") {
            if fields.len() > MOST_FIELDS {
                return self.fail("more fields than the decoder counts");
            }
            for (name, value) in fields {
                let place = format!("{}/{name}", self.place);
                let shape = Node::new(self.root, &value, place)?.shape()?;
                object.by_name.insert(name.clone(), object.fields.len());
                object.fields.push(Field { name, shape });
            }
        }
        if let Some(Value::Array(names)) = self.words.remove("required") {
            for name in &names {
                match name.as_str().and_then(|name| object.by_name.get(name)) {
                    Some(n) => object.required |= 1 << n,
                    None => return self.fail(&format!("{name} is required and not described")),
                }
            }
        }
        Ok(object)
    }

    fn inner(&mut self, word: &str) -> Result<Option<Shape>, NotUnderstood> {
        let Some(value) = self.words.remove(word) else {
            return Ok(None);
        };
        let place = format!("{}/{word}", self.place);
        Node::new(self.root, &value, place)?.shape().map(Some)
    }

    fn count(&mut self, word: &str) -> Result<Option<usize>, NotUnderstood> {
        let Some(value) = self.words.remove(word) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => self.fail(&format!("{word} is no count")),
        }
    }

    fn fail<T>(&self, what: &str) -> Result<T, NotUnderstood> {
        Err(NotUnderstood {
            place: self.place.clone(),
            what: what.to_owned(),
        })
    }
}
