//! Reads the lists of sites and their defaults.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use config::ValueKind;

use crate::about;
use crate::explain::{Explanation, explain};
use crate::fields::Fields;
use crate::item::Item;
use crate::mask::{mask_url, quote};
use crate::options::SiteOptions;
use crate::options_reader::OptionsReader;
use crate::schedule::Resolve;
use crate::site::{SharedOptions, Site};
use crate::site_list::SiteList;
use crate::site_url::{self, WrittenUrl};

/// The longest name that a message holds, in bytes.
const LONGEST_NAME: usize = 512;

/// With `resolve: each` the address stands behind the name: `@` and at most 39 characters of an IPv6 address.
const LONGEST_ADDRESS: usize = 40;

/// Sites that come from the command line.
pub(crate) struct Extras<'a> {
    /// URLs of `--site`.
    pub(crate) urls: &'a [String],
    /// A whole site, as the flags of `check` tell it.
    pub(crate) flags: Option<&'a config::Value>,
}

/// Reads all sites. Of the site named `wanted`, tells also where each of its settings was written.
pub(crate) fn read(
    root: &Fields<'_>,
    lists: &[SiteList],
    extras: &Extras<'_>,
    wanted: Option<&str>,
) -> (Vec<Arc<Site>>, Option<Explanation>) {
    let mut options = OptionsReader::default();
    let written = root.section("defaults");
    let base = options.read(&written, &SiteOptions::default());
    written.finish();

    let mut sites = Sites {
        root,
        sites: Vec::new(),
        places: HashMap::new(),
        options,
        wanted,
        explanation: None,
    };
    let root_defaults = sites.defaults_of(base);
    for list in lists {
        sites.add_list(list, &root_defaults, &written);
    }
    for text in extras.urls {
        sites.add_extra(text, &root_defaults);
    }
    if let Some(flags) = extras.flags {
        let item = Item::new(flags, "", "", root.report);
        sites.add_written(&item, &root_defaults, &[&written]);
    }
    (sites.sites, sites.explanation)
}

/// What the sites of one list start from.
struct Defaults {
    options: SiteOptions,
    shared: SharedOptions,
}

impl Defaults {
    /// Returns the options under those that a site sets itself: with the login of its URL, and its query hidden if that may hold a key.
    fn under(&self, url: Option<&WrittenUrl>) -> Cow<'_, SiteOptions> {
        let Some(url) = url.filter(|url| url.sets_options()) else {
            return Cow::Borrowed(&self.options);
        };
        let mut options = self.options.clone();
        if url.login.is_some() {
            options.request.login = url.login.clone();
        }
        options.request.hide_query |= url.has_secret_query;
        Cow::Owned(options)
    }
}

/// The sites read so far.
struct Sites<'a> {
    root: &'a Fields<'a>,
    sites: Vec<Arc<Site>>,
    /// Where each name was first used.
    places: HashMap<Arc<str>, Place>,
    options: OptionsReader,
    wanted: Option<&'a str>,
    explanation: Option<Explanation>,
}

/// Where a site was written.
enum Place {
    /// The number of its list and its own in it.
    Listed {
        key: String,
        source: String,
    },
    Extra,
}

impl Place {
    fn text(&self) -> String {
        match self {
            Self::Listed { key, source } => format!("{key} in {source}"),
            Self::Extra => EXTRA.to_owned(),
        }
    }
}

impl Sites<'_> {
    fn defaults_of(&mut self, options: SiteOptions) -> Defaults {
        Defaults {
            shared: self.options.share(options.clone()),
            options,
        }
    }

    /// The sites of one file, with its own defaults upon those of all.
    fn add_list(&mut self, list: &SiteList, root: &Defaults, written: &Fields<'_>) {
        let own = list
            .defaults
            .as_ref()
            .map(|value| Item::new(value, "", "defaults", self.root.report));
        let item = Item::new(&list.value, "", list.key, self.root.report);
        let items = item
            .list("a list of sites, each with at least a `url`")
            .unwrap_or_default();
        match own {
            None => {
                for item in &items {
                    self.add_written(item, root, &[written]);
                }
            }
            Some(own) => {
                let fields = Fields::of(own.value, own.key(), own.report);
                let options = self.options.read(&fields, &root.options);
                fields.finish();
                let defaults = self.defaults_of(options);
                for item in &items {
                    self.add_written(item, &defaults, &[&fields, written]);
                }
            }
        }
    }

    fn add_written(&mut self, item: &Item<'_>, defaults: &Defaults, below: &[&Fields<'_>]) {
        let place = item.key();
        let ValueKind::Table(table) = &item.value.kind else {
            item.wrong_type::<()>("a mapping with at least a `url`");
            return;
        };
        let label = match table.get("name").map(|name| &name.kind) {
            Some(ValueKind::String(name)) if is_readable(name) => {
                format!("{place} ({})", name.trim())
            }
            _ => place.clone(),
        };
        let fields = Fields::of(item.value, label, item.report);
        let name_item = fields.item("name");
        let name = name_item.as_ref().map(name_of);
        let formerly = fields.item("formerly");
        let formerly = formerly.as_ref().map(about::former_names);
        let url_item = fields.item("url");
        if url_item.is_none() {
            fields.missing("url", "the URL to check");
        }
        let url = url_item.as_ref().and_then(site_url::read);
        // Most sites of a long list say nothing of their own.
        let says_nothing = table
            .keys()
            .all(|key| matches!(key.as_str(), "name" | "url" | "formerly"));
        let sets_options = url.as_ref().is_some_and(WrittenUrl::sets_options);
        let shared = if says_nothing && !sets_options {
            defaults.shared.clone()
        } else {
            let options = self.options.read(&fields, &defaults.under(url.as_ref()));
            fields.finish();
            self.options.share(options)
        };

        let Some(url) = url else { return };
        let name = match name {
            Some(Some(name)) => name,
            Some(None) => return,
            None => url.default_name(shared.options.request.hide_query),
        };
        let named = name_item.or(url_item);
        let longest = longest_name(&shared.options);
        let former_names = formerly.iter().flatten();
        if let Some(long) = former_names.chain([&name]).find(|it| it.len() > longest) {
            if let Some(named) = named {
                named.found::<()>(quote(long), shorter_name(longest));
            }
            return;
        }
        if let Some(first) = self.places.get(name.as_str()) {
            if let Some(named) = named {
                named.found::<()>(
                    quote(&name),
                    format!("a name of its own: {} has this one", first.text()),
                );
            }
            return;
        }
        let site = Site::new(&name, url.parsed, &shared);
        let site = Arc::new(site.known_as(formerly.unwrap_or_default()));
        if self.wanted == Some(&*name) {
            let layers: Vec<&Fields<'_>> = std::iter::once(&fields)
                .chain(below.iter().copied())
                .collect();
            self.explanation = Some(explain(&site, &layers));
        }
        let source = item.value.origin().unwrap_or_default().to_owned();
        self.places
            .insert(Arc::clone(&site.name), Place::Listed { key: place, source });
        self.sites.push(site);
    }

    fn add_extra(&mut self, text: &str, defaults: &Defaults) {
        let problem = |found: String, expected: String| {
            self.root.report.add(Some(EXTRA), "", found, expected)
        };
        let url = match site_url::parse(text) {
            Ok(url) => url,
            Err(expected) => return problem(quote(&mask_url(text)), expected),
        };
        let name = url.default_name(defaults.options.request.hide_query);
        let longest = longest_name(&defaults.options);
        if name.len() > longest {
            return problem(quote(&name), shorter_name(longest));
        }
        if let Some(first) = self.places.get(name.as_str()) {
            return problem(
                quote(&name),
                format!(
                    "a site that is not there yet: {} has this name",
                    first.text()
                ),
            );
        }
        let shared = if url.sets_options() {
            self.options.share(defaults.under(Some(&url)).into_owned())
        } else {
            defaults.shared.clone()
        };
        let site = Arc::new(Site::new(&name, url.parsed, &shared));
        self.places.insert(Arc::clone(&site.name), Place::Extra);
        self.sites.push(site);
    }
}

/// Whether a name helps to find a site in a message.
fn is_readable(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 80 && !name.contains(char::is_control)
}

/// The source of sites from the command line.
const EXTRA: &str = "--site";

fn longest_name(options: &SiteOptions) -> usize {
    match options.schedule.resolve {
        Resolve::Any => LONGEST_NAME,
        Resolve::Each => LONGEST_NAME - LONGEST_ADDRESS,
    }
}

fn shorter_name(longest: usize) -> String {
    format!("a `name` of at most {longest} bytes (a site without one has its URL as its name)")
}

fn name_of(item: &Item<'_>) -> Option<String> {
    let text = item.text("a name")?;
    if text.len() > LONGEST_NAME {
        return item.wrong(format!("a name of at most {LONGEST_NAME} bytes"));
    }
    Some(text.to_owned())
}
