//! Which sites a command is about, as its arguments say it.

use clap::Args;
use sitewatch_actors::model::Whose;

/// The arguments. Flattened into a command; without any, it is about all sites.
#[derive(Debug, Args)]
pub struct WhoseArguments {
    /// Only this site; may be repeated, as the two below. With several of them all that are named
    #[arg(id = "one-site", long = "site", value_name = "NAME")]
    sites: Vec<String>,
    /// Only the sites of this group
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Only the sites with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl WhoseArguments {
    /// The sites.
    pub(crate) fn whose(&self) -> Whose {
        Whose {
            sites: self.sites.clone(),
            groups: self.groups.clone(),
            tags: self.tags.clone(),
        }
    }
}
