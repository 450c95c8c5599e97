//! `kafka.options`: any property of librdkafka but those on which the node's promises rest.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use crate::fields::Fields;
use crate::item::Item;

/// The properties that the node sets itself, and why, or where they are set instead.
const OWNED: [(&str, &str); 12] = [
    ("bootstrap.servers", "kafka.brokers instead"),
    ("metadata.broker.list", "kafka.brokers instead"),
    ("group.id", "kafka.group instead"),
    (
        "enable.auto.offset.store",
        "none: the node stores an offset when its rows are in the database",
    ),
    (
        "enable.auto.commit",
        "none: the node decides when an offset is committed",
    ),
    (
        "auto.offset.reset",
        "none: the node starts at the offset that is in the database",
    ),
    (
        "group.protocol",
        "none: the node needs the classic protocol",
    ),
    (
        "enable.idempotence",
        "none: the node always sends idempotently",
    ),
    ("acks", "none: the node always waits for all replicas"),
    (
        "request.required.acks",
        "none: the node always waits for all replicas",
    ),
    (
        "message.timeout.ms",
        "none: the node decides how long a message is retried",
    ),
    (
        "delivery.timeout.ms",
        "none: the node decides how long a message is retried",
    ),
];

pub(crate) fn read(kafka: &Fields<'_>) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (name, item) in kafka.section("options").entries() {
        collect(name.clone(), &item, &mut options);
    }
    options
}

/// TOML reads `socket.timeout.ms = 1` as tables in tables: their names are joined again.
fn collect(name: String, item: &Item<'_>, options: &mut BTreeMap<String, String>) {
    if let ValueKind::Table(table) = &item.value.kind {
        return collect_table(&name, item, table, options);
    }
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        item.found::<()>("a property that the node sets itself", *instead);
        return;
    }
    let text = match &item.value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::Nil | ValueKind::Array(_) => item.wrong_type("text, a number, true or false"),
        ValueKind::Float(number) => Some(format!("{number:?}")),
        number_or_bool => Some(number_or_bool.to_string()),
    };
    options.extend(text.map(|text| (name, text)));
}

fn collect_table(
    name: &str,
    item: &Item<'_>,
    table: &Map<String, Value>,
    options: &mut BTreeMap<String, String>,
) {
    let key = item.key();
    for (part, value) in table {
        let inner = Item::new(value, &key, part.as_str(), item.report);
        collect(format!("{name}.{part}"), &inner, options);
    }
}
