//! A site as the flags of the command line tell it.

use config::{FileFormat, Format, Map, Value, ValueKind};

use crate::flags::{
    FLAGS,
    FlagForm::{self, List, Pairs, Parts, Switch, Text, Yaml},
};
use crate::origin::{COMMAND_LINE, Origin};
use crate::report::Report;

/// The site that the flags tell, as a file would have it. A flag that is not known is a mistake of the caller and left out.
pub(crate) fn site(flags: &[(String, Vec<String>)], report: &Report) -> Option<Value> {
    if flags.is_empty() {
        return None;
    }
    let mut site = Map::<String, Value>::new();
    for (name, texts) in flags {
        let shown = match name.as_str() {
            "url" => "URL".to_owned(),
            name => format!("--{name}"),
        };
        let origin = Origin::Variable {
            source: COMMAND_LINE,
            name: &shown,
        }
        .encode();
        let known = FLAGS.iter().find(|flag| flag.name == name);
        let (setting, form) = match (name.as_str(), known) {
            ("url", _) => ("url", Text),
            (_, Some(flag)) => (flag.setting, flag.form),
            (_, None) => continue,
        };
        let Some(value) = value(form, texts, &origin, report) else {
            continue;
        };
        match setting.split_once('.') {
            None => drop(site.insert(setting.to_owned(), value)),
            Some((section, part)) => {
                let section = site
                    .entry(section.to_owned())
                    .or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
                if let ValueKind::Table(table) = &mut section.kind {
                    table.insert(part.to_owned(), value);
                }
            }
        }
    }
    Some(Value::new(None, ValueKind::Table(site)))
}

fn value(form: FlagForm, texts: &[String], origin: &str, report: &Report) -> Option<Value> {
    let text = |text: &str| Value::new(Some(&origin.to_owned()), text);
    let last = texts.last().map_or("", String::as_str);
    // Most of these may hold a secret: what is told is what is missing.
    let wrong = |found: &str, expected: &str| {
        report.add(Some(origin), "", found, expected);
        None
    };
    let table = |pairs: Vec<(String, Value)>| {
        let table: Map<String, Value> = pairs.into_iter().collect();
        Some(Value::new(
            Some(&origin.to_owned()),
            ValueKind::Table(table),
        ))
    };
    match form {
        Text | Switch => Some(text(last)),
        List => Some(Value::new(
            Some(&origin.to_owned()),
            ValueKind::Array(texts.iter().map(|one| text(one)).collect()),
        )),
        Pairs if origin.ends_with("--basic-auth") => match last.split_once(':') {
            Some((user, password)) => table(vec![
                ("username".to_owned(), text(user)),
                ("password".to_owned(), text(password)),
            ]),
            None => wrong("a text without `:`", "USER:PASSWORD"),
        },
        Pairs => {
            pairs(texts, &text).map_or_else(|| wrong("a text without `:`", "NAME: VALUE"), table)
        }
        Parts => {
            let parts: Option<Vec<_>> = last
                .split(',')
                .map(|part| {
                    let (name, value) = part.split_once('=')?;
                    Some((name.trim().to_owned(), text(value.trim())))
                })
                .collect();
            parts.map_or_else(
                || wrong("a part without `=`", "NAME=VALUE, with commas between"),
                table,
            )
        }
        Yaml => {
            // The parser takes a mapping only: the value is put into one.
            let parsed =
                FileFormat::Yaml.parse(Some(&origin.to_owned()), &format!("value: {last}"));
            match parsed
                .ok()
                .and_then(|mut table| table.shift_remove("value"))
            {
                Some(value) => Some(value),
                None => wrong("what can't be parsed", "a value in YAML or JSON"),
            }
        }
    }
}

/// `NAME: VALUE`; values of one name become a list.
fn pairs(texts: &[String], text: &dyn Fn(&str) -> Value) -> Option<Vec<(String, Value)>> {
    let mut pairs: Vec<(String, Vec<Value>)> = Vec::new();
    for pair in texts {
        let (name, value) = pair.split_once(':')?;
        let (name, value) = (name.trim(), text(value.trim()));
        match pairs.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value),
            None => pairs.push((name.to_owned(), vec![value])),
        }
    }
    let value = |mut values: Vec<Value>| match values.len() {
        1 => values.remove(0),
        _ => Value::new(None, ValueKind::Array(values)),
    };
    Some(
        pairs
            .into_iter()
            .map(|(name, values)| (name, value(values)))
            .collect(),
    )
}
