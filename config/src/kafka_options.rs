//! `kafka.options`: any property of librdkafka but those on which the node's promises rest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use config::{Map, Value, ValueKind};

use crate::fields::Fields;
use crate::item::Item;
use crate::kafka_owned::{first_name, owned, refused};
use crate::mask::{MASK, is_sensitive};
use crate::pem;
use crate::reference;
use crate::request::FileContent;
use crate::secret::Secret;

/// The properties that name a file which librdkafka reads when a client is made.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// Properties of librdkafka by name. Any value may be a secret, so that each is typed as one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaOptions {
    values: BTreeMap<String, Secret>,
    /// What the files hold that the values name: new ones under the same names are a change.
    files: Vec<FileContent>,
}

impl KafkaOptions {
    /// Returns true if a property is set, under whichever of its names.
    pub fn contains_key(&self, name: &str) -> bool {
        self.other_name(name).is_some()
    }

    /// Returns the name under which a property is set.
    fn other_name(&self, name: &str) -> Option<&str> {
        let mut names = self.values.keys().map(String::as_str);
        names.find(|set| first_name(set) == first_name(name))
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.values.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// What is turned off.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let off = [
            (
                "enable.ssl.certificate.verification",
                "false",
                "any certificate of a broker is trusted",
            ),
            (
                "ssl.endpoint.identification.algorithm",
                "none",
                "a broker's certificate may be for any name",
            ),
        ];
        off.into_iter()
            .filter(|(name, value, _)| {
                self.get(name)
                    .is_some_and(|set| set.reveal().eq_ignore_ascii_case(value))
            })
            .map(|(name, value, means)| {
                format!("kafka.options: {name} is {value}: {means}, so that anyone in between can read and change everything")
            })
    }
}

/// Hides the values of all properties that usually hold a credential.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&'_ str, &'_ Secret)| {
            if is_sensitive(name) {
                (name.to_owned(), MASK.to_owned())
            } else {
                (name.to_owned(), value.reveal().to_owned())
            }
        };
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

pub(crate) fn read(kafka: &Fields<'_>) -> KafkaOptions {
    let mut options = KafkaOptions::default();
    for (name, item) in kafka.section("options").entries() {
        collect(name.clone(), &item, &mut options);
    }
    options
}

/// TOML reads `socket.timeout.ms = 1` as tables in tables: their names are joined again.
fn collect(name: String, item: &Item<'_>, options: &mut KafkaOptions) {
    if let ValueKind::Table(table) = &item.value.kind {
        return collect_table(&name, item, table, options);
    }
    if let Some(instead) = owned(&name) {
        item.found::<()>("a property that the node sets itself", instead);
        return;
    }
    if let Some(other) = options.other_name(&name) {
        item.found::<()>(format!("another name of {other}"), "one of both");
        return;
    }
    let value = match &item.value.kind {
        ValueKind::String(_) if is_sensitive(&name) => reference::secret(item, "a secret"),
        ValueKind::String(text) => Some(Secret::new(text)),
        ValueKind::Nil | ValueKind::Array(_) => item.wrong_type("text, a number, true or false"),
        ValueKind::Float(number) => Some(Secret::new(format!("{number:?}"))),
        number_or_bool => Some(Secret::new(number_or_bool.to_string())),
    };
    let Some(value) = value else { return };
    if let Some(right) = refused(&name, value.reveal()) {
        item.found::<()>("a value with which the node can't work", right);
        return;
    }
    if name == "sasl.oauthbearer.method" && value.reveal().eq_ignore_ascii_case("oidc") {
        item.found::<()>(
            "oidc, which this build of librdkafka does not have",
            "kafka.sasl with the mechanism OAUTHBEARER and a token_command that asks the provider",
        );
        return;
    }
    if FILES.contains(&name.as_str()) && !remember_file(&name, item, &value, options) {
        return;
    }
    options.values.insert(name, value);
}

/// Keeps what the file holds; `false` after a problem. Relative paths start at the working directory, as librdkafka has it.
fn remember_file(name: &str, item: &Item<'_>, value: &Secret, options: &mut KafkaOptions) -> bool {
    let is_word = name == "ssl.ca.location" && value.reveal() == "probe";
    let path = PathBuf::from(value.reveal());
    if is_word || path.is_dir() {
        return true;
    }
    match pem::content(&path) {
        Ok(file) => {
            options.files.push(file);
            true
        }
        Err(why) => {
            let found = format!("{} ({why})", path.display());
            item.found::<()>(
                found,
                "a file (a relative path starts at the working directory)",
            );
            false
        }
    }
}

fn collect_table(
    name: &str,
    item: &Item<'_>,
    table: &Map<String, Value>,
    options: &mut KafkaOptions,
) {
    let key = item.key();
    for (part, value) in table {
        let inner = Item::new(value, &key, part.as_str(), item.report);
        collect(format!("{name}.{part}"), &inner, options);
    }
}
