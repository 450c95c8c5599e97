//! Where each setting of a site was written.

use std::sync::Arc;

use crate::fields::Fields;
use crate::mask::mask_url;
use crate::origin::Origin;
use crate::site::Site;

/// The settings in force for one site.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The site.
    pub site: Arc<Site>,
    /// Its settings, as settings files have them.
    pub rows: Vec<Explained>,
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub key: String,
    /// Its value, secrets hidden, as JSON (which is YAML too).
    pub value: String,
    /// Where it was written; `built-in default` if nowhere.
    pub origin: String,
}

/// Asks each layer, the site's own first.
pub(crate) fn explain(site: &Arc<Site>, layers: &[&Fields<'_>]) -> Explanation {
    let serde_json::Value::Object(options) =
        serde_json::to_value(&*site.options).unwrap_or_default()
    else {
        return Explanation {
            site: Arc::clone(site),
            rows: Vec::new(),
        };
    };
    let row = |(key, value): (String, serde_json::Value)| Explained {
        origin: origin(&key, layers),
        value: match value {
            serde_json::Value::String(text)
                if key == "expect_final_url" && site.options.request.hide_query =>
            {
                mask_url(&text)
            }
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        },
        key,
    };
    // With a calendar there is no interval.
    let of_calendar = site.options.schedule.cron.is_some();
    let in_force = |(key, _): &(String, _)| !(of_calendar && key == "interval");
    Explanation {
        site: Arc::clone(site),
        rows: options.into_iter().filter(in_force).map(row).collect(),
    }
}

fn origin(key: &str, layers: &[&Fields<'_>]) -> String {
    // A mapping under `body` is sent as JSON.
    let names = if key == "json" {
        &["json", "body"][..]
    } else {
        &[key]
    };
    let place = layers
        .iter()
        .find_map(|fields| names.iter().find_map(|name| fields.place_of(name)))
        // Where nobody wrote a login, it is that of the URL.
        .or_else(|| match key {
            "basic_auth" => layers.iter().find_map(|fields| fields.place_of("url")),
            _ => None,
        });
    match place {
        None => "built-in default".to_owned(),
        Some((place, origin)) => match Origin::decode(origin) {
            Origin::File(path) => format!("{path}: {place}"),
            Origin::Variable { source, name } => format!("{source}: {name}"),
        },
    }
}
