//! What goes into a message has the bounds of the message, wherever a site is written: what a consumer would set aside is refused here.

use crate::support::{Folder, folder};

fn yaml(sites: &str) -> Folder {
    folder().file("sitewatch.yaml", sites)
}

/// A URL of so many bytes.
fn url(bytes: usize) -> String {
    format!("http://a/{}", "x".repeat(bytes - 9))
}

#[test]
fn a_name_fits_a_message_and_so_does_a_url_that_serves_as_one() {
    let named = |name: &str, more: &str| {
        yaml(&format!(
            "sites: [{{ name: '{name}', url: http://a/{more} }}]"
        ))
    };
    let (long, longer) = ("n".repeat(512), "n".repeat(513));
    let each = ", resolve: each";
    let fit = [
        named(&long, ""),
        named(&"é".repeat(256), ""),
        named(&"n".repeat(472), each),
        yaml(&format!("sites: [{{ url: '{}' }}]", url(512))),
        yaml(&format!("sites: [{{ name: a, url: '{}' }}]", url(2048))),
        yaml("sites: [{ url: http://b/ }]").site(&url(512)),
        yaml("target_files: [t.json]")
            .file("t.json", &format!(r#"[{{"targets": ["{}"]}}]"#, url(512))),
        named("a", &format!(", formerly: ['{}']", "f".repeat(512))),
    ];
    for folder in fit {
        folder.load();
    }
    let beyond = [
        named(&longer, ""),
        named(&"é".repeat(257), ""),
        named(&"n".repeat(473), each),
        yaml(&format!("sites: [{{ url: '{}' }}]", url(513))),
        yaml("sites: [{ url: http://b/ }]").site(&url(513)),
        yaml("target_files: [t.json]")
            .file("t.json", &format!(r#"[{{"targets": ["{}"]}}]"#, url(513))),
        yaml("include: [s.yaml]").file("s.yaml", &format!("sites: [{{ url: '{}' }}]", url(513))),
        yaml(&format!(
            "defaults: {{ resolve: each }}\nsites: [{{ url: '{}' }}]",
            url(473)
        )),
        named("a", &format!(", formerly: ['{}']", "f".repeat(513))),
        named("a", &format!(", formerly: ['{}']{each}", "f".repeat(473))),
    ];
    for (n, folder) in beyond.into_iter().enumerate() {
        let problems = folder.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(" bytes"),
            "{n}: {problems:?}"
        );
    }
}

#[test]
fn a_url_fits_a_message_also_when_it_is_percent_encoded() {
    let long = |count: usize| {
        yaml(&format!(
            "sites: [{{ name: a, url: 'http://a/?{}' }}]",
            "é".repeat(count)
        ))
    };
    assert_eq!(long(681).load().sites[0].url.as_str().len(), 10 + 681 * 6);
    let problems = long(682).problems();
    assert!(
        problems[0].contains("at most 4096 bytes when it is percent-encoded"),
        "{problems:?}"
    );
}

#[test]
fn labels_calendars_and_words_fit_a_message() {
    let site = |more: &str| yaml(&format!("sites: [{{ url: http://a/, {more} }}]"));
    let labels = |count: usize| {
        let labels: Vec<_> = (0..count).map(|n| format!("l{n}: x")).collect();
        format!("labels: {{ {} }}", labels.join(", "))
    };
    site(&labels(256)).load();
    let cron = |spaces: usize| format!("cron: '0{} 0 * * * UTC'", " ".repeat(spaces));
    site(&cron(243)).load();
    for (more, told) in [
        (labels(257), "at most 256 labels"),
        ("labels: { a: \"x\\0\" }".to_owned(), "without NUL"),
        ("labels: { \"a\\0\": x }".to_owned(), "without NUL"),
        (
            format!("labels: {{ a: {} }}", "x".repeat(257)),
            "at most 256 bytes",
        ),
        (cron(244), "at most 256 bytes"),
        (format!("group: {}", "x".repeat(129)), "at most 128 bytes"),
        (format!("tags: [{}]", "x".repeat(129)), "at most 128 bytes"),
    ] {
        let problems = site(&more).problems();
        assert!(problems[0].contains(told), "{problems:?}");
    }
    let both = format!(
        "defaults: {{ {} }}\nsites: [{{ url: http://a/, labels: {{ own: x }} }}]",
        labels(256)
    );
    let problems = yaml(&both).problems();
    assert!(problems[0].contains("257 labels"), "{problems:?}");
    let location = yaml(&format!(
        "node: {{ location: {} }}\nsites: [{{ url: http://a/ }}]",
        "x".repeat(256)
    ));
    assert!(location.problems()[0].contains("at most 255 bytes"));
}
