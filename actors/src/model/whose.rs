//! Which sites are meant.

/// The sites with one of these names, groups or tags; all without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// Names, also former ones.
    pub sites: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
}

impl Whose {
    /// Whether all sites are meant.
    pub fn is_all(&self) -> bool {
        self.sites.is_empty() && self.groups.is_empty() && self.tags.is_empty()
    }
}
