//! A folder with settings files, and the sources of a node that runs there.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use sitewatch_config::{Problems, Role, Settings, Sources, load, load_any};
use tempfile::TempDir;

/// A certificate of its own making and its key, PEM.
pub(crate) fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = parameters.self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

/// A node's working directory, told as a story: `folder().file(…).env(…).load()`.
pub(crate) struct Folder {
    dir: TempDir,
    sources: Sources,
}

pub(crate) fn folder() -> Folder {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources {
        working_dir: dir.path().to_owned(),
        ..Sources::default()
    };
    Folder { dir, sources }
}

impl Folder {
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn config(mut self, path: &str) -> Self {
        self.sources.config = Some(PathBuf::from(path));
        self
    }

    pub(crate) fn site(mut self, url: &str) -> Self {
        self.sources.sites.push(url.to_owned());
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn try_load(&self) -> Result<Settings, Problems> {
        load_any(&self.sources)
    }

    pub(crate) fn load(&self) -> Settings {
        self.try_load()
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(crate) fn load_for(&self, role: Role) -> Result<Settings, Problems> {
        load(role, &self.sources)
    }

    /// The messages, one a problem.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self.try_load() {
            Ok(_) => panic!("no problem was found"),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }
}
