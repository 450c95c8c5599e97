//! The bounds of a message. They are declared once, in its published JSON Schema, which this program reads: what the schema refuses, the
//! decoder refuses, and nothing has to be kept the same by hand.

mod compile;
mod walk;

use std::{collections::HashMap, sync::LazyLock};

use regex::Regex;

pub(super) use self::walk::check;

/// The message of kind `check`.
pub(super) static CHECK_SHAPE: LazyLock<Shape> =
    LazyLock::new(|| built_in(include_str!("../message.schema.json")));

/// The message of kind `site`.
pub(super) static REVISION_SHAPE: LazyLock<Shape> =
    LazyLock::new(|| built_in(include_str!("../revision.schema.json")));

/// What a value may be.
pub(super) enum Shape {
    /// Any JSON of at most 127 levels.
    Anything,
    Flag,
    Number(Range),
    Text(Text),
    List(List),
    Object(Object),
}

/// Which numbers. All bounds are below 2^53, where each whole number has a float of its own.
pub(super) struct Range {
    least: Bound,
    most: Bound,
    whole: bool,
}

/// A bound of a number.
struct Bound {
    value: f64,
    /// Set if the number must not be the bound itself.
    open: bool,
}

/// Which texts. Lengths are in characters, as in JSON Schema.
#[derive(Default)]
pub(super) struct Text {
    shortest: usize,
    longest: Option<usize>,
    pattern: Option<Pattern>,
    /// If it is one of a list.
    words: Option<Vec<String>>,
}

/// What a text must look like.
enum Pattern {
    /// Without NUL, which PostgreSQL's text can't hold: looked for without a regular expression, since all names are asked.
    NoNul,
    Regex(Regex),
}

/// Which lists.
pub(super) struct List {
    fewest: usize,
    most: Option<usize>,
    item: Box<Shape>,
}

/// Which objects.
#[derive(Default)]
pub(super) struct Object {
    fields: Vec<Field>,
    by_name: HashMap<String, usize, foldhash::fast::RandomState>,
    /// The fields that must be there, a bit for each.
    required: u64,
    most: Option<usize>,
    /// Of fields that are not listed.
    names: Option<Text>,
    others: Option<Box<Shape>>,
}

struct Field {
    name: String,
    shape: Shape,
}

fn built_in(schema: &str) -> Shape {
    compile::shape_of(schema).unwrap_or_else(|error| {
        panic!("the schema is a part of the program, and tests read it: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schema: &str, payload: &str) -> Option<String> {
        let shape = compile::shape_of(schema).unwrap();
        check(&shape, payload.as_bytes())
            .err()
            .map(|(_, told)| told)
    }

    #[test]
    fn each_bound_is_told_with_its_field_what_was_found_and_what_would_be_right() {
        let schema = r##"{ "type": "object", "required": ["a"], "properties": {
            "a": { "type": "integer", "minimum": -1, "maximum": 9007199254740991 },
            "b": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100 },
            "c": { "type": "array", "minItems": 1, "maxItems": 2, "items": { "$ref": "#/$defs/c" } },
            "d": { "type": "object", "maxProperties": 1, "propertyNames": { "type": "string", "maxLength": 2 },
                   "additionalProperties": { "type": "string", "minLength": 2 } },
            "e": { "enum": ["x", "y"] }, "f": { "type": "boolean" }, "g": { "const": 1 } },
          "$defs": { "c": { "type": "object", "properties": { "t": { "type": "string", "maxLength": 2, "pattern": "^[^\\x00]*$" } } } } }"##;
        let more = "; the schema of the message allows";
        for (payload, expected) in [
            (r#"{"a": 1, "unknown": [{}]}"#, None),
            (r#"{"a": 1.0, "b": 1e-300, "g": 1e0}"#, None),
            (r#"{"a": -0, "c": [{"t": "éé"}], "f": true}"#, None),
            ("{}", Some("a is missing".to_owned())),
            (
                "[]",
                Some("the message is a list; expected an object".into()),
            ),
            (
                r#"{"a": null}"#,
                Some("a is null; expected a number".into()),
            ),
            (
                r#"{"a": "1"}"#,
                Some("a is a text; expected a number".into()),
            ),
            (
                r#"{"a": 1.5}"#,
                Some("a is 1.5; expected a whole number".into()),
            ),
            (
                r#"{"a": -2}"#,
                Some("a is -2, at least -1 is stored".into()),
            ),
            (
                r#"{"a": 9007199254740992}"#,
                Some("a is 9007199254740992, at most 9007199254740991 is stored".into()),
            ),
            (
                r#"{"a": 1e300}"#,
                Some("a is 1e300, at most 9007199254740991 is stored".into()),
            ),
            (
                r#"{"a": 1, "b": 0}"#,
                Some("b is 0, more than 0 is stored".into()),
            ),
            (
                r#"{"a": 1, "b": 100}"#,
                Some("b is 100, less than 100 is stored".into()),
            ),
            (
                r#"{"a": 1, "c": [{}, {"t": "ééé"}]}"#,
                Some("c[1].t has 3 characters, at most 2 are stored".into()),
            ),
            (
                r#"{"a": 1, "c": [{"t": "\u0000"}]}"#,
                Some("c[0].t holds a NUL character, which PostgreSQL can't store".into()),
            ),
            (
                r#"{"a": 1, "c": [{}, {}, {}]}"#,
                Some("c has more than 2 entries".into()),
            ),
            (
                r#"{"a": 1, "c": []}"#,
                Some("c has 0 entries, at least 1 are expected".into()),
            ),
            (
                r#"{"a": 1, "d": {"k": "v"}}"#,
                Some("d.k has 1 characters, at least 2 are expected".into()),
            ),
            (
                r#"{"a": 1, "d": {"key": "vv"}}"#,
                Some("d: a name has 3 characters, at most 2 are stored".into()),
            ),
            (
                r#"{"a": 1, "d": {"k": "vv", "l": "vv"}}"#,
                Some("d has more than 1 entries".into()),
            ),
            (r#"{"a": 1, "e": "a later word"}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some("a stands twice".into())),
            (
                r#"{"a": 1, "g": 2}"#,
                Some("g is 2, at most 1 is stored".into()),
            ),
        ] {
            assert_eq!(told(schema, payload), expected, "{payload}");
        }
        let bad = [
            r#"{"a": 1, "unknown": "\ud800"}"#,
            r#"{"a": 1e400}"#,
            r#"{"a": 1} 2"#,
            r#"{"a": 1"#,
        ];
        for payload in bad {
            assert!(told(schema, payload).is_some(), "{payload}");
        }
        let deep = |levels| {
            format!(
                r#"{{"a": 1, "u": {}1{}}}"#,
                "[".repeat(levels),
                "]".repeat(levels)
            )
        };
        assert_eq!(told(schema, &deep(120)), None);
        assert!(told(schema, &deep(130)).is_some());
        let long = format!(r#"{{"a": 1, "e": "{}"}}"#, "z".repeat(65));
        assert!(
            told(schema, &long)
                .unwrap()
                .ends_with(", no word of the schema")
        );
        let instant = r#"{ "type": "object", "properties": { "a": { "type": "string", "pattern": "^[0-9]$" } } }"#;
        let told = told(instant, r#"{"a": "x\u001b"}"#).unwrap();
        assert!(
            told.contains(more) && told.starts_with("a is \"x\\u{1b}\""),
            "{told}"
        );
    }

    #[test]
    fn a_schema_with_a_word_that_is_not_understood_is_refused() {
        for schema in [
            r#"{ "type": "integer", "multipleOf": 2 }"#,
            r#"{ "type": "object", "properties": { "a": { "type": "string", "maxlength": 2 } } }"#,
            r#"{ "type": "integer", "maximum": 9007199254740993 }"#,
            r##"{ "$ref": "#/$defs/a" }"##,
        ] {
            assert!(compile::shape_of(schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn the_schemas_of_the_program_are_read() {
        for shape in [&*CHECK_SHAPE, &*REVISION_SHAPE] {
            let Shape::Object(object) = shape else {
                panic!("no object")
            };
            assert!(object.fields.len() > 15);
        }
    }
}
