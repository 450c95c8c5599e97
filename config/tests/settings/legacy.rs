//! The ways of the original project, as they were.

use crate::support::folder;
use sitewatch_config::{BodyForm, Role, Secret, Settings};

const URL_CONFIG: &str = include_str!("../../url_config.yaml");

fn assert_its_sites(settings: &Settings) {
    let [post, spiegel] = &*settings.sites else {
        panic!("two sites, not {:?}", settings.sites)
    };
    assert_eq!(&*post.name, "http://httpbin.org/post?a=1");
    assert_eq!(post.options.request.method, "POST");
    assert_eq!(
        post.options.request.headers,
        [("x-extra-header".to_owned(), Secret::new("1"))]
    );
    let body = post.options.request.body.as_ref().unwrap();
    assert_eq!(
        (body.bytes.as_slice(), body.form),
        (b"{}".as_slice(), BodyForm::Json)
    );
    assert_eq!(
        (
            spiegel.options.request.method.as_str(),
            spiegel.url.as_str()
        ),
        ("GET", "https://www.spiegel.de/")
    );
    assert_eq!(spiegel.options.request.body, None);
}

#[test]
fn the_original_variables_are_enough_for_a_producer() {
    let settings = folder()
        .file("url_config.yaml", URL_CONFIG)
        .env("KAFKA_SERVER", "localhost:9092")
        .env("URL_CONFIG_FILE", "url_config.yaml")
        .load_for(Role::Producer)
        .unwrap();
    assert_its_sites(&settings);
    assert_eq!(settings.kafka.topic, "url_metrics");
}

#[test]
fn the_original_variables_are_enough_for_a_consumer() {
    let settings = folder()
        .env("KAFKA_SERVER", "localhost:9092")
        .env("KAFKA_TOPIC", "mine")
        .env("POSTGRES_URL", "postgresql://u:p@localhost/db")
        .load_for(Role::Consumer)
        .unwrap();
    assert_eq!(settings.kafka.topic, "mine");
    assert_eq!(
        settings.postgres.url.unwrap().connection_url(),
        "postgresql://u:p@localhost/db"
    );
}

#[test]
fn the_original_file_can_be_the_settings_file() {
    assert_its_sites(
        &folder()
            .file("url_config.yaml", URL_CONFIG)
            .config("url_config.yaml")
            .load(),
    );
}

#[test]
fn a_file_that_is_named_twice_is_read_once() {
    let folder = folder()
        .file("url_config.yaml", URL_CONFIG)
        .config("url_config.yaml")
        .env("URL_CONFIG_FILE", "./url_config.yaml");
    assert_its_sites(&folder.load());
}

#[test]
fn its_sites_are_added_to_those_of_the_settings_file() {
    let folder = folder()
        .file(
            "sitewatch.yaml",
            "defaults: { method: HEAD }\nsites: [{ name: mine, url: 'https://example.org/' }]",
        )
        .file(
            "old/url_config.json",
            r#"{"schedule": [{"url": "https://example.com/"}]}"#,
        )
        .env("URL_CONFIG_FILE", "old/url_config.json");
    let settings = folder.load();
    let sites: Vec<_> = settings
        .sites
        .iter()
        .map(|site| (&*site.name, site.options.request.method.as_str()))
        .collect();
    assert_eq!(sites, [("mine", "HEAD"), ("https://example.com/", "HEAD")]);
    assert_eq!(settings.files.len(), 2);
}

#[test]
fn mistakes_in_both_files_name_the_file() {
    let folder = folder()
        .file(
            "sitewatch.yaml",
            "sites: [{ name: one, url: 'https://example.org/' }]",
        )
        .file(
            "url_config.toml",
            "kafka = 1\n[[schedule]]\nname = 'one'\nurl = 'https://example.com/'\nintervall = 1",
        )
        .env("URL_CONFIG_FILE", "url_config.toml");
    assert_eq!(
        folder.problems(),
        [
            "url_config.toml: kafka: found the unknown key kafka; expected only `schedule:` in the file of URL_CONFIG_FILE",
            "url_config.toml: schedule[0] (one).intervall: found the unknown key intervall; \
             expected interval (did you mean that?)",
            "url_config.toml: schedule[0] (one).name: found \"one\"; \
             expected a name of its own: sites[0] in sitewatch.yaml has this one",
        ]
    );
}
