//! The values that are tried for a field: at its bounds and one beyond.

use serde_json::{Map, Value, json};

/// Values at the bounds and beyond them, each with whether it is within.
pub(super) fn tries(words: &Map<String, Value>, right: &Value) -> Vec<(Value, bool)> {
    let mut tries = vec![
        (Value::Null, false),
        (json!([[]]), false),
        (json!({ "a": {} }), false),
    ];
    let kind = words.get("type").and_then(Value::as_str);
    match kind {
        Some("boolean") => {
            tries.extend([(json!(true), true), (json!(false), true), (json!(0), false)])
        }
        Some("integer" | "number") => {
            tries.extend([(json!("1"), false), (json!(true), false)]);
            tries.extend(numbers(words, kind == Some("integer")));
        }
        Some("string") => {
            tries.push((json!(1), false));
            tries.extend(texts(words));
        }
        Some("array") => tries.extend(lists(words, right)),
        Some("object") => tries.extend(objects(words)),
        _ => tries.extend([
            (json!("gremlins"), false),
            (json!("w".repeat(65)), false),
            (json!(7), false),
            (right.clone(), true),
        ]),
    }
    tries
}

fn numbers(words: &Map<String, Value>, is_whole: bool) -> Vec<(Value, bool)> {
    let bound = |word: &str| words.get(word).cloned();
    if is_whole {
        let (least, most) = (
            bound("minimum").unwrap().as_i64().unwrap(),
            bound("maximum").unwrap().as_i64().unwrap(),
        );
        return vec![
            (json!(least), true),
            (json!(least - 1), false),
            (json!(most), true),
            (json!(most + 1), false),
            (json!(most as f64), true),
            (json!(i64::MAX), false),
            (json!(u64::MAX), false),
            (json!(i64::MIN), false),
            (json!(1e300), false),
            (json!(0.5), false),
        ];
    }
    let (least, most) = (
        bound("exclusiveMinimum").unwrap().as_f64().unwrap(),
        bound("exclusiveMaximum").unwrap().as_f64().unwrap(),
    );
    vec![
        (json!(least), false),
        (json!(least + 1e-9), true),
        (json!(most), false),
        (json!(most - 1e-9), true),
        (json!(-1), false),
        (json!(1e300), false),
    ]
}

fn texts(words: &Map<String, Value>) -> Vec<(Value, bool)> {
    let pattern = words.get("pattern").and_then(Value::as_str);
    if words
        .get("format")
        .is_some_and(|format| format == "date-time")
    {
        return instants(pattern.unwrap());
    }
    let most = words.get("maxLength").unwrap().as_u64().unwrap() as usize;
    let least = words.get("minLength").and_then(Value::as_u64).unwrap_or(0) as usize;
    let mut tries = vec![
        (json!("y".repeat(least)), true),
        (json!("\u{1b}\u{202e}\u{ffff}"), true),
    ];
    for filling in ["x", "é", "𝄞"] {
        tries.push((json!(filling.repeat(most)), true));
        tries.push((json!(filling.repeat(most + 1)), false));
    }
    if least > 0 {
        tries.push((json!("y".repeat(least - 1)), false));
    }
    tries.push((json!("a\u{0}b"), pattern.is_none()));
    tries
}

fn instants(pattern: &str) -> Vec<(Value, bool)> {
    let is_bounded = !pattern.starts_with("^[0-9]{4}");
    let mut tries: Vec<_> = [
        "1970-01-01T00:00:00.000000Z",
        "2999-12-31T23:59:59.999999999Z",
        "2026-01-01T00:00:00Z",
    ]
    .map(|text| (json!(text), true))
    .into();
    tries.extend(
        ["1969-12-31T23:59:59.999999Z", "3000-01-01T00:00:00Z"]
            .map(|text| (json!(text), !is_bounded)),
    );
    tries.extend(
        [
            "-004713-01-01T00:00:00Z",
            "+294276-12-31T23:59:59.999999Z",
            "10000-01-01T00:00:00Z",
            "2026-01-01T00:00:00+02:00",
            "2026-01-01T00:00:00Z[Europe/Paris]",
            "infinity",
            "",
            "soon",
        ]
        .map(|text| (json!(text), false)),
    );
    tries
}

fn lists(words: &Map<String, Value>, right: &Value) -> Vec<(Value, bool)> {
    let most = words.get("maxItems").unwrap().as_u64().unwrap() as usize;
    let least = words.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
    let item = &right[0];
    let mut tries = vec![
        (Value::Array(vec![item.clone(); most]), true),
        (Value::Array(vec![item.clone(); most + 1]), false),
        (Value::Array(vec![item.clone(); least]), true),
        (json!("x"), false),
    ];
    if least > 0 {
        tries.push((Value::Array(vec![item.clone(); least - 1]), false));
    }
    tries
}

fn objects(words: &Map<String, Value>) -> Vec<(Value, bool)> {
    let Some(most) = words.get("maxProperties").and_then(Value::as_u64) else {
        return vec![(json!("x"), false)];
    };
    let some = |count: u64| {
        (0..count)
            .map(|n| (n.to_string(), json!("x")))
            .collect::<Map<_, _>>()
    };
    vec![
        (Value::Object(some(most)), true),
        (Value::Object(some(most + 1)), false),
        (json!({}), true),
    ]
}
