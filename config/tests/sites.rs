//! What a site's settings mean.

mod support;

use std::time::Duration;

use sitewatch_config::{Site, diff_sites};
use support::folder;

#[test]
fn a_site_needs_nothing_but_a_url() {
    let settings = folder()
        .file("sitewatch.yaml", "sites: [{ url: 'https://example.org' }]")
        .load();
    let site = &settings.sites[0];
    assert_eq!(
        (site.name.as_str(), site.url.as_str()),
        ("https://example.org", "https://example.org/")
    );
    assert_eq!(
        (site.interval, site.timeout),
        (Duration::from_secs(60), Duration::from_secs(10))
    );
    assert_eq!((site.method.as_str(), site.headers.len()), ("GET", 0));
    assert!(site.body.is_none() && site.body_matches.is_none());
    assert_eq!(site.expected_status.to_string(), "200-299");
    assert!(!site.allow_private && site.follow_redirects);
    assert_eq!((site.max_redirects, site.max_body_bytes), (10, 1_048_576));
}

#[test]
fn a_site_overrides_the_defaults() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "
defaults:
  { interval: 5s, timeout: 1s, method: head, headers: { A: 1, B: 2, C: 3 }, expected_status: 204, allow_private: true,
    follow_redirects: false, max_redirects: 1, max_body_bytes: 10 }
sites:
  - url: https://example.org/1
  - url: https://example.org/2
    timeout: 10s
    method: propfind
    headers: { b: two, C: ~, D: 1.0 }
    expected_status: 3xx
    allow_private: false
",
        )
        .load();
    let [one, two] = &*settings.sites else {
        panic!()
    };
    assert_eq!(
        (one.interval, one.timeout),
        (Duration::from_secs(5), Duration::from_secs(1))
    );
    assert_eq!(
        (
            one.method.as_str(),
            one.expected_status.to_string().as_str()
        ),
        ("HEAD", "204")
    );
    assert!(one.allow_private && !one.follow_redirects);
    assert_eq!((one.max_redirects, one.max_body_bytes), (1, 10));

    assert_eq!(
        (two.interval, two.timeout),
        (Duration::from_secs(5), Duration::from_secs(10))
    );
    assert_eq!(two.method, "PROPFIND");
    let headers: Vec<_> = two
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    assert_eq!(headers, ["A: 1", "b: two", "D: 1.0"]);
    assert!(two.expected_status.contains(304) && !two.expected_status.contains(204));
    assert!(!two.allow_private);
}

#[test]
fn a_body_is_text_or_json() {
    let settings = folder()
        .file(
            "sitewatch.yaml",
            "sites:\n- { url: 'http://a/', body: 'a: b' }\n- { url: 'http://b/', body: [1, a] }",
        )
        .load();
    let body = |n: usize| settings.sites[n].body.clone().unwrap();
    assert_eq!(
        (body(0).bytes.as_slice(), body(0).is_json),
        (b"a: b".as_slice(), false)
    );
    assert_eq!(
        (body(1).bytes.as_slice(), body(1).is_json),
        (br#"[1,"a"]"#.as_slice(), true)
    );
}

/// If this fails, every node announces every site anew after an upgrade: it must be on purpose.
#[test]
fn the_hash_stays_the_same_from_release_to_release() {
    assert_eq!(
        Site::for_testing("https://example.org/").config_hash(),
        "f11aaf37d8d2ab9b"
    );
}

#[test]
fn the_hash_changes_with_each_field() {
    type Change = fn(&mut Site);
    let changes: [Change; 12] = [
        |site| site.name.push('x'),
        |site| site.url.set_path("/x"),
        |site| site.interval *= 2,
        |site| site.timeout *= 2,
        |site| site.method = "POST".to_owned(),
        |site| site.headers.push(("a".to_owned(), "b".to_owned())),
        |site| {
            site.body = Some(sitewatch_config::Body {
                bytes: Vec::new(),
                is_json: false,
            })
        },
        |site| site.body_matches = sitewatch_config::Pattern::new("x").ok(),
        |site| site.expected_status = "200".parse().unwrap(),
        |site| site.allow_private = false,
        |site| site.follow_redirects = false,
        |site| site.max_body_bytes += 1,
    ];
    let site = Site::for_testing("https://example.org/");
    let mut hashes = vec![site.config_hash()];
    for change in changes {
        let mut changed = site.clone();
        change(&mut changed);
        assert_ne!(changed, site);
        hashes.push(changed.config_hash());
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 13);
}

#[test]
fn loading_twice_changes_nothing() {
    let folder = folder().file("sitewatch.yaml", include_str!("../demo.yaml"));
    let (old, new) = (folder.load().sites, folder.load().sites);
    let changes = diff_sites(&old, &new);
    assert_eq!(
        (
            changes.unchanged,
            changes.start.len(),
            changes.stop.len(),
            changes.replace.len()
        ),
        (6, 0, 0, 0)
    );
}

#[test]
fn ten_thousand_sites_load_and_weigh_little() {
    let mut text = String::from("defaults: { headers: { User-Agent: sitewatch } }\nsites:\n");
    for n in 0..10_000 {
        text +=
            &format!("  - {{ url: 'https://host-{n}.example.org/path', body_matches: 'ok' }}\n");
    }
    let settings = folder().file("sitewatch.yaml", &text).load();
    assert_eq!(settings.sites.len(), 10_000);
    assert!(size_of::<Site>() <= 320, "{}", size_of::<Site>());
}
