//! The small languages of Gatus: variables, conditions, patterns.

use regex::escape;

/// `a == b` in parts, the placeholder on the left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) left: String,
    pub(super) operator: Operator,
    pub(super) right: String,
}

/// How the two sides compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    AtMost,
    AtLeast,
    Greater,
    Less,
}

/// In the order in which Gatus looks for them.
const OPERATORS: [(&str, Operator); 6] = [
    (" == ", Operator::Equal),
    (" != ", Operator::NotEqual),
    (" <= ", Operator::AtMost),
    (" >= ", Operator::AtLeast),
    (" > ", Operator::Greater),
    (" < ", Operator::Less),
];

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        OPERATORS
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("", |(sign, _)| sign.trim())
    }

    /// The same comparison with its sides swapped.
    fn flipped(self) -> Operator {
        match self {
            Operator::AtMost => Operator::AtLeast,
            Operator::AtLeast => Operator::AtMost,
            Operator::Greater => Operator::Less,
            Operator::Less => Operator::Greater,
            same => same,
        }
    }

    /// Whether `left` and `right` compare so.
    pub(super) fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
            Operator::AtMost => left <= right,
            Operator::AtLeast => left >= right,
            Operator::Greater => left > right,
            Operator::Less => left < right,
        }
    }
}

/// Parts a condition at its operator.
pub(super) fn comparison(condition: &str) -> Option<Comparison> {
    let (sign, operator) = OPERATORS
        .into_iter()
        .find(|(sign, _)| condition.contains(sign))?;
    let (left, right) = condition.split_once(sign)?;
    let (left, right) = (left.trim().to_owned(), right.trim().to_owned());
    if !is_placeholder(&left) && is_placeholder(&right) {
        return Some(Comparison {
            left: right,
            operator: operator.flipped(),
            right: left,
        });
    }
    Some(Comparison {
        left,
        operator,
        right,
    })
}

/// Whether this stands for something of the answer.
pub(super) fn is_placeholder(text: &str) -> bool {
    let inner = ["len(", "has(", "age("]
        .iter()
        .find_map(|name| text.strip_prefix(name))
        .unwrap_or(text);
    inner.starts_with('[')
}

/// What a placeholder is compared with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    Text(&'a str),
    /// `pat(…)`, as the pattern.
    Pattern(&'a str),
    /// `any(…)`, as its choices.
    Any(Vec<&'a str>),
}

pub(super) fn operand(text: &str) -> Operand<'_> {
    let inner = |name: &str| {
        text.strip_prefix(name)
            .and_then(|rest| rest.strip_suffix(')'))
    };
    match (inner("pat("), inner("any(")) {
        (Some(pattern), _) => Operand::Pattern(pattern),
        (_, Some(choices)) => Operand::Any(choices.split(',').map(str::trim).collect()),
        _ => Operand::Text(text),
    }
}

/// The regular expression of a pattern with `*` and `?`, with `edge` for what may be around the whole.
/// `None` if there is more in it.
pub(super) fn regex_of(pattern: &str, edge: &str) -> Option<String> {
    if pattern.contains(['[', ']', '\\']) {
        return None;
    }
    let inner = pattern.trim_matches('*');
    if inner.is_empty() {
        return (!pattern.is_empty()).then(String::new);
    }
    let start = if pattern.starts_with('*') {
        String::new()
    } else {
        format!("^{edge}")
    };
    let end = if pattern.ends_with('*') {
        String::new()
    } else {
        format!("{edge}$")
    };
    let mut regex = String::new();
    for c in inner.chars() {
        match c {
            '*' if regex.ends_with(".*") => {}
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            c => regex.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    // A dot of ours does not match a line's end unless it is told to.
    let lines = if inner.contains(['*', '?']) {
        "(?s)"
    } else {
        ""
    };
    Some(format!("{lines}{start}{regex}{end}"))
}

/// Puts Gatus' variables, `$NAME` and `${NAME}`, as ours, `${NAME}`. `$$` is a plain `$` there.
pub(super) fn with_variables(text: &str) -> String {
    written(text, |plain| plain)
}

/// As [`with_variables`], for a value in which `${` means a variable here too.
pub(super) fn in_a_body(text: &str) -> String {
    written(text, |plain| plain.replace("${", "$${"))
}

fn written(text: &str, plain: impl Fn(String) -> String) -> String {
    let pieces = pieces(text).into_iter();
    pieces
        .map(|(text, is_variable)| {
            if is_variable {
                format!("${{{text}}}")
            } else {
                plain(text)
            }
        })
        .collect()
}

/// As [`in_a_body`], for a value in which `file:` has a meaning too.
pub(super) fn secret(text: &str) -> Option<String> {
    let is_file =
        matches!(pieces(text).first(), Some((first, false)) if first.starts_with("file:"));
    (!is_file).then(|| in_a_body(text))
}

/// Whether a variable stands in `text`.
pub(super) fn has_variable(text: &str) -> bool {
    pieces(text).iter().any(|(_, is_variable)| *is_variable)
}

/// Plain text and the names of variables, in turn.
fn pieces(text: &str) -> Vec<(String, bool)> {
    let mut pieces = vec![(String::new(), false)];
    let plain = |pieces: &mut Vec<(String, bool)>, c: char| match pieces.last_mut() {
        Some((text, false)) => text.push(c),
        _ => pieces.push((c.to_string(), false)),
    };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '$' {
            plain(&mut pieces, c);
            continue;
        }
        let braced = rest
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'));
        let word = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if let Some(after) = rest.strip_prefix('$') {
            plain(&mut pieces, '$');
            rest = after;
        } else if let Some((name, after)) = braced {
            pieces.push((name.to_owned(), true));
            rest = after;
        } else if word > 0 && !rest.starts_with(|c: char| c.is_ascii_digit()) {
            pieces.push((rest[..word].to_owned(), true));
            rest = &rest[word..];
        } else {
            plain(&mut pieces, '$');
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_parted_with_the_placeholder_on_the_left() {
        let parted = comparison("200 <= [STATUS]").unwrap();
        assert_eq!(
            (parted.left.as_str(), parted.operator, parted.right.as_str()),
            ("[STATUS]", Operator::AtLeast, "200")
        );
        assert_eq!(comparison("[BODY].a == b > c").unwrap().right, "b > c");
        assert_eq!(comparison("[STATUS]==200"), None);
        assert_eq!(operand("any(200, 429)"), Operand::Any(vec!["200", "429"]));
        assert_eq!(operand("pat(*(a)*)"), Operand::Pattern("*(a)*"));
    }

    #[test]
    fn patterns_become_regular_expressions() {
        for (pattern, regex) in [
            ("*", ""),
            ("*a.b*", r"a\.b"),
            ("a*", "^a"),
            ("*a", "a$"),
            ("a*b", "(?s)^a.*b$"),
            ("*a?b*", "(?s)a.b"),
            ("*<title>ok</title>*", "<title>ok</title>"),
        ] {
            assert_eq!(regex_of(pattern, "").as_deref(), Some(regex), "{pattern}");
        }
        assert_eq!(regex_of("ok", r"\s*").as_deref(), Some(r"^\s*ok\s*$"));
        assert_eq!(regex_of("[a-z]*", ""), None);
    }

    #[test]
    fn variables_become_ours() {
        for (theirs, ours) in [
            ("Bearer ${TOKEN}", "Bearer ${TOKEN}"),
            ("$TOKEN!", "${TOKEN}!"),
            ("a$$b", "a$b"),
            ("$${X}", "$${X}"),
            ("$5 $", "$5 $"),
            ("${OPEN", "$${OPEN"),
        ] {
            assert_eq!(secret(theirs).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(secret("file:x"), None);
        assert_eq!(with_variables("https://$HOST/$$"), "https://${HOST}/$");
        assert!(has_variable("$A") && !has_variable("$$A"));
    }
}
