//! Gathers the layers and merges them into one tree.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use crate::environment::Variables;
use crate::file;
use crate::item::Item;
use crate::report::Report;
use crate::site_list::{SiteList, take_lists};

/// The settings file that is read when none is named, whichever of these there is.
const DEFAULT_FILES: [&str; 4] = [
    "sitewatch.yaml",
    "sitewatch.yml",
    "sitewatch.toml",
    "sitewatch.json",
];

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The settings file, as the user wrote its path.
    pub config: Option<PathBuf>,
    /// The URLs of `--site`.
    pub sites: Vec<String>,
    /// One more site as flags tell it: names of settings with the texts after the flags, `tls.ca` for a part.
    pub flags: Vec<(String, Vec<String>)>,
    /// Read no settings but those named here: no default file, no `.env`, no variable that sets something.
    pub isolated: bool,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Where relative paths, `.env` and the default settings file are.
    pub working_dir: PathBuf,
}

impl Sources {
    /// The environment and working directory of this process. Variables that are not UTF-8 are left out.
    pub fn from_process(config: Option<PathBuf>, sites: Vec<String>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Sources {
            config,
            sites,
            flags: Vec::new(),
            isolated: false,
            env: env::vars_os().filter_map(text).collect(),
            working_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }
}

/// Leaves the environment and the URLs out: both may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("config", &self.config)
            .field("sites", &self.sites.len())
            .field("flags", &self.flags.len())
            .field("env", &self.env.len())
            .field("working_dir", &self.working_dir)
            .finish()
    }
}

/// The merged layers.
pub(crate) struct Layers {
    pub(crate) tree: Value,
    /// The lists of sites, one a file: lists add up, they do not replace one another.
    pub(crate) site_lists: Vec<SiteList>,
    pub(crate) files: Vec<PathBuf>,
    /// The settings file, for problems with what is not written at all.
    pub(crate) main_source: String,
    pub(crate) host_name: Option<String>,
    /// A file could not be read, so that what seems missing may be in there.
    pub(crate) incomplete: bool,
}

/// Reads all layers. Problems go to the report.
pub(crate) fn gather(sources: &Sources, report: &Report) -> Layers {
    let (variables, has_dotenv) = Variables::gather(&sources.env, !sources.isolated, report);
    report.set_variables(variables.texts());
    let mut layers = Layers {
        tree: Value::new(None, ValueKind::Nil),
        site_lists: Vec::new(),
        files: Vec::new(),
        main_source: if sources.flags.is_empty() {
            "settings".to_owned()
        } else {
            "command line".to_owned()
        },
        host_name: variables
            .get("HOSTNAME")
            .and_then(|name| name.into_string().ok()),
        incomplete: false,
    };
    let main = sources.config.clone().or_else(|| {
        if sources.isolated {
            None
        } else {
            default_file(report, &mut layers.incomplete)
        }
    });
    let mut settings = Map::new();
    if let Some(path) = &main {
        layers.main_source = path.display().to_string();
        settings = layers.read_file(path, report);
    }
    if let Some(path) = variables
        .get("URL_CONFIG_FILE")
        .filter(|_| !sources.isolated)
    {
        layers.read_site_file(&path, main.as_deref(), report);
    }
    if has_dotenv {
        layers.files.push(report.working_dir().join(".env"));
    }

    let mut builder = Config::builder().add_source(Layer(settings));
    if !sources.isolated {
        builder = builder
            .add_source(Layer(variables.legacy_layer()))
            .add_source(Layer(variables.layer(report)));
    }
    let merged = builder.build();
    match merged {
        Ok(merged) => layers.tree = merged.cache,
        Err(error) => report.add(
            None,
            "",
            format!("layers that do not merge ({error})"),
            "another value",
        ),
    }
    layers
}

fn default_file(report: &Report, incomplete: &mut bool) -> Option<PathBuf> {
    let present = |name: &&str| report.working_dir().join(name).exists();
    let names: Vec<&str> = DEFAULT_FILES.into_iter().filter(present).collect();
    if names.len() > 1 {
        *incomplete = true;
        report.add(
            None,
            "",
            names.join(" and "),
            "only one of them, or --config FILE",
        );
        return None;
    }
    names.first().map(PathBuf::from)
}

impl Layers {
    /// Reads a settings file and takes its sites out.
    fn read_file(&mut self, path: &Path, report: &Report) -> Map<String, Value> {
        let Some(mut table) = file::read(path, report) else {
            self.incomplete = true;
            return Map::new();
        };
        self.files.push(report.working_dir().join(path));
        self.site_lists.extend(take_lists(&mut table, report));
        table
    }

    /// Reads the file of `URL_CONFIG_FILE`, which has sites and nothing else.
    fn read_site_file(&mut self, path: &Value, main: Option<&Path>, report: &Report) {
        let item = Item::new(path, "", "URL_CONFIG_FILE", report);
        let Some(shown) = item
            .text("the path of a file with a `schedule:` list")
            .map(Path::new)
        else {
            return;
        };
        let place = |path: &Path| report.working_dir().join(path).canonicalize().ok();
        if main.is_some_and(|main| place(main).is_some() && place(main) == place(shown)) {
            return; // named twice, read once
        }
        let rest = self.read_file(shown, report);
        for (name, value) in &rest {
            let item = Item::new(value, "", name.as_str(), report);
            item.found::<()>(
                format!("the unknown key {name}"),
                "only `schedule:` in the file of URL_CONFIG_FILE",
            );
        }
    }
}

/// One layer, already read.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
