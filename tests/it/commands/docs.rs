//! docs/checks.md: each example is valid, and each option has one.

use std::{fs, path::Path};

use super::run::{Ran, program};
use crate::scripted::Authority;

/// The examples, as they stand in the document.
fn examples(document: &str) -> Vec<&str> {
    let blocks = document.split("```yaml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks.md");
    fs::read_to_string(path).unwrap()
}

#[test]
fn each_example_is_valid() {
    let document = document();
    let examples = examples(&document);
    assert!(examples.len() > 5);
    let authority = Authority::new();
    let client = authority.client("node");
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        for (from, to) in [
            (authority.ca_file(), "partner-ca.pem"),
            (client.cert_file.clone(), "node.pem"),
            (client.key_file.clone(), "node.key"),
        ] {
            fs::copy(from, here(to)).unwrap();
        }
        fs::write(here("sample.bin"), "x").unwrap();
        fs::write(here("token"), "T").unwrap();
        fs::create_dir(here("sites.d")).unwrap();
        fs::write(here("sites.d/a.yaml"), "sites: []\n").unwrap();
        fs::create_dir(here("targets")).unwrap();
        fs::write(here("targets/a.json"), "[]").unwrap();
        let text = example.replace("/run/secrets/upload_token", "token");
        fs::write(here("sitewatch.yaml"), text).unwrap();
        let ran: Ran = program(folder.path(), &["validate"])
            .envs(
                [
                    "SHOP_PASSWORD",
                    "CLIENT_SECRET",
                    "OLD_PASSWORD",
                    "PROXY_PASSWORD",
                ]
                .map(|name| (name, "secret")),
            )
            .output()
            .unwrap()
            .into();
        assert_eq!(ran.code, Some(0), "{example}\n{}", ran.err);
    }
}

#[test]
fn each_option_has_an_example() {
    let document = document();
    let examples = examples(&document).concat();
    let mut options = 0;
    // Tables of options have a second column "default".
    for table in document.split("| option | default |").skip(1) {
        for row in table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
        {
            let named = row.split('|').nth(1).unwrap();
            for option in named
                .split(',')
                .map(|option| option.trim().trim_matches('`'))
            {
                let key = option.strip_prefix("tls.").unwrap_or(option);
                assert!(
                    examples.contains(&format!("{key}: "))
                        || examples.contains(&format!("{key}:\n")),
                    "{option} has no example"
                );
                options += 1;
            }
        }
    }
    assert!(options > 40, "{options}");
}
