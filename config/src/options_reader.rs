//! Reads what a site and `defaults` may both say, and lets sites that say the same share it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::fields::Fields;
use crate::options::SiteOptions;
use crate::pattern::Patterns;
use crate::site::SharedOptions;
use crate::{about, connection, expect, incident, request, schedule};

/// The largest part of a body that travels with a result.
const LARGEST_CAPTURE: u64 = 64 << 10;

/// Reads options; remembers what was read.
#[derive(Default)]
pub(crate) struct OptionsReader {
    patterns: Patterns,
    shared: HashMap<Arc<SiteOptions>, SharedOptions>,
}

impl OptionsReader {
    /// What `fields` say, upon `base`.
    pub(crate) fn read(&mut self, fields: &Fields<'_>, base: &SiteOptions) -> SiteOptions {
        SiteOptions {
            schedule: schedule::read(fields, &base.schedule),
            request: request::read(fields, &base.request),
            connection: connection::read(fields, &base.connection),
            expect: expect::read(fields, &base.expect, &mut self.patterns),
            incident: incident::read(fields, &base.incident),
            about: about::read(fields, &base.about),
            capture_bytes: fields
                .item("capture_bytes")
                .and_then(|item| item.whole(0..=LARGEST_CAPTURE))
                .unwrap_or(base.capture_bytes),
            labels: labels(fields, &base.labels),
        }
    }

    /// The one copy of `options`.
    pub(crate) fn share(&mut self, options: SiteOptions) -> SharedOptions {
        if let Some(shared) = self.shared.get(&options) {
            return shared.clone();
        }
        let shared = SharedOptions::new(options);
        self.shared
            .insert(Arc::clone(&shared.options), shared.clone());
        shared
    }
}

/// The most labels of a site, its defaults' included: each check's message holds them all.
const MOST_LABELS: usize = 256;

fn labels(fields: &Fields<'_>, base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = base.clone();
    for (name, item) in fields.section("labels").entries() {
        match item.scalar() {
            Some(text) if fits(name, 64) && fits(&text, 256) => {
                labels.insert(name.clone(), text);
            }
            Some(_) => {
                let expected =
                    "a name of at most 64 and a text of at most 256 bytes, both without NUL";
                item.wrong::<()>(expected);
            }
            None => {
                item.wrong_type::<()>("text, a number, true or false");
            }
        }
    }
    if labels.len() > MOST_LABELS
        && let Some(item) = fields.item("labels")
    {
        item.found::<()>(
            format!("{} labels, those of `defaults` included", labels.len()),
            format!("at most {MOST_LABELS} labels"),
        );
    }
    labels
}

/// Whether the database takes a text.
fn fits(text: &str, longest: usize) -> bool {
    text.len() <= longest && !text.contains('\0')
}
