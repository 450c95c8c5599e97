//! Text of others (a site, a message, a broker) as it may be shown and stored. Pure.

use std::{fmt::Write as _, ops::RangeInclusive};

/// The characters of Unicode's categories "format" (Cf), "line separator" (Zl) and "paragraph separator" (Zp): they have no
/// picture of their own, but turn the direction of text, hide parts of it, or break a line. A test compares them with the tables
/// of the crate `regex`.
const INVISIBLE: [RangeInclusive<char>; 22] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
    // No character, but what a terminal or an editor does with it is not defined either.
    '\u{fffe}'..='\u{ffff}',
];

/// Returns true for a character that is visible as itself: no control or format character, no line break.
fn is_plain(c: char) -> bool {
    !c.is_control() && !INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Text that neither steers a terminal nor misleads a reader: control and format characters are written as escapes, such as
/// `\u{202e}`. Every text that a site or a message brought goes through here before it is printed, logged or put into an error
/// detail. A second time changes nothing.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

/// JSON that may go to a terminal: what [`printable`] escapes is written as JSON's own escapes, so that a reader of the JSON
/// gets the same text. Line breaks between values stay.
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_plain(c) || c == '\n' {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String can't fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_steers_the_terminal_or_hides() {
        let shown = printable("a\x1b[31m\u{9b}b\u{202e}ä\n\u{200b}\u{e0041}");
        assert_eq!(
            shown,
            "a\\u{1b}[31m\\u{9b}b\\u{202e}ä\\u{a}\\u{200b}\\u{e0041}"
        );
        assert_eq!(printable(&shown), shown);
        assert_eq!(printable("Zoë, 東京 🙂"), "Zoë, 東京 🙂");
    }

    #[test]
    fn the_table_is_that_of_unicode() {
        let unicode = regex::Regex::new(r"\A[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]\z").unwrap();
        let differ: Vec<char> = ('\0'..=char::MAX)
            .filter(|c| !matches!(c, '\u{fffe}'..='\u{ffff}'))
            .filter(|c| is_plain(*c) == unicode.is_match(c.encode_utf8(&mut [0; 4])))
            .collect();
        assert!(differ.is_empty(), "{differ:?}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_meaning(text in any::<String>()) {
            let json = serde_json::json!({ "a": text, "b": "\u{202e}\u{9b}\u{e0041}" }).to_string();
            let shown = printable_json(&json);
            prop_assert!(shown.chars().all(is_plain));
            let (before, after): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&json).unwrap(), serde_json::from_str(&shown).unwrap());
            prop_assert_eq!(before, after);
        }
    }
}
