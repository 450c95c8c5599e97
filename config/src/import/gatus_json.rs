//! Gatus' conditions on a value in a JSON body.

use serde_json::Value as Json;

use super::draft::Draft;
use super::gatus_value::{Operand, Operator, operand, regex_of};

const OPTION: &str = "expect_json";
const TAKEN: &str = "compares the same value in the same way as a condition before it";

/// The JSONPath of what follows `[BODY]`, such as `.data[0].id`.
pub(super) fn path_of(text: &str) -> Option<String> {
    let mut path = "$".to_owned();
    for (n, part) in text.split('.').enumerate() {
        let (name, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() && (n > 0 || !(part.is_empty() || part.starts_with('['))) {
            return None;
        }
        if !name.is_empty() {
            path.push_str(&member(name));
        }
        let mut rest = indices;
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            rest = after;
            if index != "*" && index.parse::<u32>().is_err() {
                return None;
            }
            path.push_str(&format!("[{index}]"));
        }
    }
    Some(path)
}

/// A member by name: `.name`, or in brackets where RFC 9535 asks for it.
fn member(name: &str) -> String {
    let is_shorthand = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_shorthand {
        format!(".{name}")
    } else {
        format!("['{}']", name.replace('\\', r"\\").replace('\'', r"\'"))
    }
}

/// What text stands for in JSON: a number, a switch, or text.
pub(super) fn value_of(text: &str) -> Json {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => return number.into(),
        _ => {}
    }
    match (
        text,
        text.parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64),
    ) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        // `1e5` and `007` may well be text.
        (_, Some(number)) if number.to_string() == text => Json::Number(number),
        _ => text.into(),
    }
}

/// `[BODY].path operator value`.
pub(super) fn value(
    draft: &mut Draft,
    path: &str,
    operator: Operator,
    right: &str,
) -> Result<(), &'static str> {
    let (comparison, value) = match (operator, operand(right)) {
        (Operator::Equal, Operand::Text(text)) => ("equals", value_of(text)),
        (Operator::NotEqual, Operand::Text(text)) => ("not_equals", value_of(text)),
        (Operator::Equal, Operand::Pattern(pattern)) => ("matches", pattern_of(pattern)?),
        (Operator::Equal, Operand::Any(choices)) => match &*choices {
            [one] => ("equals", value_of(one)),
            many if many.iter().all(|one| value_of(one).is_string()) => {
                let choices: Vec<String> = many.iter().map(|one| regex::escape(one)).collect();
                ("matches", format!("^(?:{})$", choices.join("|")).into())
            }
            _ => return Err("a choice of numbers cannot be written"),
        },
        (Operator::NotEqual, _) => {
            return Err("that a value is not like this cannot be written");
        }
        (operator, _) => (ordering(operator), number(right)?),
    };
    if draft.compare(OPTION, path, comparison, value) {
        Ok(())
    } else {
        Err(TAKEN)
    }
}

fn pattern_of(pattern: &str) -> Result<Json, &'static str> {
    regex_of(pattern, "")
        .map(Json::from)
        .ok_or("a pattern with [ ] or \\ cannot be written")
}

fn ordering(operator: Operator) -> &'static str {
    match operator {
        Operator::Less => "less_than",
        Operator::AtMost => "at_most",
        Operator::Greater => "greater_than",
        Operator::AtLeast | Operator::Equal | Operator::NotEqual => "at_least",
    }
}

fn number(text: &str) -> Result<Json, &'static str> {
    let value = value_of(text);
    if value.is_number() {
        Ok(value)
    } else {
        Err("only numbers have an order here")
    }
}

/// `has([BODY].path) == true`.
pub(super) fn has(
    draft: &mut Draft,
    path: &str,
    operator: Operator,
    right: &str,
) -> Result<(), &'static str> {
    let expected = match (operator, right) {
        (Operator::Equal, "true") | (Operator::NotEqual, "false") => true,
        (Operator::Equal, "false") | (Operator::NotEqual, "true") => false,
        _ => return Err("is neither true nor false"),
    };
    if draft.compare(OPTION, path, "exists", expected.into()) {
        Ok(())
    } else {
        Err(TAKEN)
    }
}

/// `len([BODY].path) operator number`, as the presence of the elements around that length.
pub(super) fn len(
    draft: &mut Draft,
    path: &str,
    operator: Operator,
    right: &str,
) -> Result<(), &'static str> {
    if path.contains("[*]") {
        return Err("the length of each of several lists cannot be written");
    }
    let length: u32 = right
        .parse()
        .map_err(|_| "is compared with something that is no number")?;
    // The list has at least so many elements, and fewer than so many.
    let (least, below) = match operator {
        Operator::Equal => (length, length.checked_add(1)),
        Operator::NotEqual if length == 0 => (1, None),
        Operator::NotEqual => return Err("that a list has not this length cannot be written"),
        Operator::AtLeast => (length, None),
        Operator::Greater => (length.saturating_add(1), None),
        Operator::AtMost => (0, length.checked_add(1)),
        Operator::Less => (0, Some(length)),
    };
    if below == Some(0) {
        return Err("never holds");
    }
    let mut is_free = true;
    if let Some(last) = least.checked_sub(1) {
        is_free &= draft.compare(OPTION, &format!("{path}[{last}]"), "exists", true.into());
    }
    if let Some(below) = below {
        is_free &= draft.compare(
            OPTION,
            &format!("{path}[{}]", below - 1),
            "exists",
            false.into(),
        );
    }
    if is_free { Ok(()) } else { Err(TAKEN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_those_of_rfc_9535() {
        for (theirs, ours) in [
            ("", "$"),
            (".status", "$.status"),
            (".data[0].id", "$.data[0].id"),
            ("[0].name", "$[0].name"),
            (".user-id", "$['user-id']"),
            (".a.0", "$.a['0']"),
            (".m[1][2]", "$.m[1][2]"),
            (".all[*].ok", "$.all[*].ok"),
        ] {
            assert_eq!(path_of(theirs).as_deref(), Some(ours), "{theirs}");
        }
        for text in ["..a", ".a.", ".a[b]", ".a[0"] {
            assert_eq!(path_of(text), None, "{text}");
        }
    }

    #[test]
    fn digits_are_a_number_only_if_they_read_the_same() {
        for (text, json) in [
            ("1", "1"),
            ("-2", "-2"),
            ("1.5", "1.5"),
            ("007", "\"007\""),
            ("1e5", "\"1e5\""),
            ("true", "true"),
            ("UP", "\"UP\""),
            ("NaN", "\"NaN\""),
        ] {
            assert_eq!(value_of(text).to_string(), json);
        }
    }
}
