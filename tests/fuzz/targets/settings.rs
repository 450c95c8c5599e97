//! Whatever a settings file holds: all mistakes are told, and nothing panics.
#![no_main]

use std::{cell::OnceCell, fs};

use libfuzzer_sys::fuzz_target;
use sitewatch_config::{Sources, load_any};

thread_local! {
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder for the file"));
        fs::write(folder.path().join("sitewatch.yaml"), text).expect("the file is written");
        let sources = Sources {
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        };
        if let Err(problems) = load_any(&sources) {
            assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
        }
    });
});
